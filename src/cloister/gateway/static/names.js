// In JupyterLab's pages people are called by their names. The app knows them by number alone, and writes that; who a number
// is, the platform tells the page.
(() => {
  const NUMBER = /^p-\d{6,}$/;
  const WRITTEN = ".cm-line, .jp-OutputArea, .jp-RenderedMarkdown, .xterm"; // what people wrote and programs printed stays
  const DIGITS = 2; // of a number, where there is no room for more
  const AGAIN_MS = 10_000;
  let names = {};
  let asked = -Infinity;

  function known(number) {
    if (!NUMBER.test(number)) return false;
    if (!names[number] && performance.now() - asked > AGAIN_MS) void ask().catch(() => {}); // who has just come
    return Boolean(names[number]);
  }

  const short = (name) => {
    const words = name.split(/\s+/).filter(Boolean);
    return [words[0], words.length > 1 ? words.at(-1) : ""].map((word) => [...word][0] ?? "").join("").toUpperCase();
  };

  function initials(element, number) {
    const marks = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (marks.nextNode()) if (marks.currentNode.nodeValue === number.slice(-DIGITS)) marks.currentNode.nodeValue = short(names[number]);
  }

  function name(text) {
    const number = text.nodeValue.trim();
    const element = text.parentElement;
    if (!element || element.closest(WRITTEN) || !known(number)) return;
    text.nodeValue = names[number];
    if (element.previousElementSibling) initials(element.previousElementSibling, number);
  }

  function look(node) {
    if (node.nodeType === Node.TEXT_NODE) return name(node);
    if (node.nodeType !== Node.ELEMENT_NODE || node.closest(WRITTEN)) return;
    const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) name(texts.currentNode);
    for (const element of [node, ...node.querySelectorAll('[title^="p-"]')]) {
      const number = element.getAttribute("title") ?? "";
      if (!known(number)) continue;
      element.setAttribute("title", names[number]);
      initials(element, number);
    }
  }

  // The only place that says nothing but two digits: whose page this is.
  function greet() {
    const icon = document.querySelector(".jp-MenuBar-anonymousIcon");
    const me = window.jupyterapp?.serviceManager.user.identity?.username ?? "";
    if (icon && known(me)) initials(icon, me);
  }

  async function ask() {
    asked = performance.now();
    const answer = await fetch("/_cloister/mates");
    if (!answer.ok) return;
    const told = Object.entries(await answer.json());
    names = Object.fromEntries(told.filter(([, name]) => !NUMBER.test(name.trim()))); // or one would be looked up as another
    look(document.body);
    greet();
  }

  function begin() {
    if (!document.getElementById("jupyter-config-data")) return; // another app has its own ways
    new MutationObserver((changes) => {
      greet();
      for (const { type, target, addedNodes } of changes) type === "childList" ? addedNodes.forEach(look) : look(target);
    }).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["title"] });
    void ask().catch(() => {}); // then there are numbers
  }

  addEventListener("DOMContentLoaded", begin);
})();
