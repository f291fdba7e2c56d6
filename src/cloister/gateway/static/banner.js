// The platform's word in a workspace's page: it is about to rest, has ended, or may send no more today.
(() => {
  const german = navigator.language.startsWith("de");
  const t = (english, deutsch) => (german ? deutsch : english);
  const box = document.createElement("div");
  box.setAttribute("role", "status");
  box.id = "cloister-banner";
  box.style.cssText =
    "position:fixed;left:50%;top:12px;transform:translateX(-50%);z-index:100000;width:max-content;max-width:min(46rem,calc(100vw - 2rem));box-sizing:border-box;align-items:center;padding:.6rem 1rem;" +
    "border-radius:8px;background:#1d2733;color:#fff;font:14px/1.5 system-ui,sans-serif;box-shadow:0 4px 16px rgba(0,0,0,.3);display:none";
  const text = document.createElement("span");
  const button = document.createElement("button");
  button.style.cssText =
    "margin-left:1rem;flex:none;font:inherit;padding:.2rem .7rem;border-radius:6px;border:1px solid #8ab4f8;background:transparent;color:#8ab4f8;cursor:pointer";
  box.append(text, button);
  let gone = null;
  let said = 0; // when the platform was last told that somebody types or points here

  function say(words, label, act) {
    text.textContent = words;
    button.textContent = label || "";
    button.style.display = label ? "" : "none";
    button.onclick = act || null;
    box.style.display = words ? "flex" : "none";
  }

  // Nothing answers: the platform restarts, or the network is away. JupyterLab says so in a dialog that takes the keyboard
  // from whoever is typing, again and again; this says it beside their work, and closes that before it is painted.
  const BLIP_MS = 2000;
  let lost = null; // the timer that says so
  const dialogs = new MutationObserver(quiet);

  function lose() {
    if (lost !== null || gone !== null) return;
    lost = setTimeout(() => say(t("The connection is lost. What you write stays here, and it goes on by itself.", "Die Verbindung ist unterbrochen. Was Sie schreiben, bleibt hier, und es geht von selbst weiter.")), BLIP_MS);
    dialogs.observe(document.body, { childList: true, subtree: true });
    quiet();
  }

  function find() {
    clearTimeout(lost);
    lost = null; // what there is to say now, the stream says
    dialogs.disconnect();
    reconnect();
  }

  // JupyterLab waits longer and longer before it looks for its kernels again, and gives up after two minutes.
  function reconnect() {
    for (const widget of window.jupyterapp?.shell.widgets("main") ?? []) {
      const kernel = (widget.context ?? widget).sessionContext?.session?.kernel;
      if (kernel && kernel.connectionStatus !== "connected") kernel.reconnect().catch(() => {}); // it goes on trying
    }
  }

  function quiet() {
    for (const dialog of document.querySelectorAll(".jp-Dialog")) {
      const buttons = dialog.querySelectorAll(".jp-Dialog-button"); // nothing to choose but never to see it again
      if (buttons.length === 1 && dialog.querySelector("input[type=checkbox]")) buttons[0].click();
    }
  }

  // A browser gives up on a stream that was answered with an error: while the platform restarts, say.
  const FIRST_WAIT_MS = 500;
  const LONGEST_WAIT_MS = 6000;
  let wait = FIRST_WAIT_MS;
  async function again() {
    const asked = new AbortController();
    try {
      const answer = await fetch("/_cloister/events", { signal: asked.signal });
      if (answer.status === 401 || answer.status === 403) {
        const problem = await answer.json().catch(() => ({}));
        return end(problem.detail || "", "/");
      }
    } catch {
      // nobody answers: once more, later
    } finally {
      asked.abort();
    }
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    setTimeout(follow, wait * (0.5 + Math.random())); // not every page in the same moment
  }

  function end(reason, home) {
    gone = "ended";
    clearTimeout(lost); // why it ended is what there is to say
    dialogs.disconnect();
    const cover = document.createElement("div"); // what lies under it no longer answers
    cover.style.cssText = "position:fixed;inset:0;z-index:99999;background:rgba(246,248,250,.94)";
    document.body.append(cover);
    say(`${t("You can no longer work here.", "Sie können hier nicht mehr arbeiten.")} ${reason}`, t("To the front page", "Zur Startseite"), () => location.assign(home));
  }

  function follow() {
    const source = new EventSource("/_cloister/events");
    source.addEventListener("open", () => {
      wait = FIRST_WAIT_MS;
      if (lost !== null) find();
    });
    source.addEventListener("error", () => {
      lose();
      if (source.readyState === EventSource.CLOSED && gone !== "ended") void again();
    });
    source.addEventListener("here", () => {
      if (gone !== null) location.reload();
      else say("");
    });
    source.addEventListener("idle", (event) => {
      const { minutes } = JSON.parse(event.data);
      said = 0;
      say(t(`Nobody works here just now. This workspace will rest in ${minutes} min; your files are kept.`, `Gerade arbeitet hier niemand. Das Notebook ruht in ${minutes} min; Ihre Dateien bleiben.`), t("Keep it awake", "Wach halten"), async () => {
        await fetch("/_cloister/keep", { method: "POST" });
        say("");
      });
    });
    source.addEventListener("due", (event) => {
      const { minutes } = JSON.parse(event.data);
      say(t(`This workspace is to have another size or environment. In ${minutes} min it restarts with that; save your work, your files are kept.`, `Das Notebook bekommt eine andere Größe oder Umgebung. In ${minutes} min startet es damit neu; speichern Sie, Ihre Dateien bleiben.`));
    });
    source.addEventListener("asleep", (event) => {
      const { reason } = JSON.parse(event.data);
      gone = "asleep";
      say(t(`This workspace rests. ${reason || ""} Your files are kept.`, `Das Notebook ruht. ${reason || ""} Ihre Dateien bleiben.`), t("Wake it", "Wecken"), () => location.reload());
    });
    source.addEventListener("starting", () => {
      gone = "asleep";
      say(t("This workspace starts again. Your files are kept.", "Das Notebook startet neu. Ihre Dateien bleiben."), t("Show how far it is", "Zeigen, wie weit es ist"), () => location.reload());
    });
    source.addEventListener("budget", (event) => say(JSON.parse(event.data).reason));
    source.addEventListener("ends", (event) => {
      if (sessionStorage.getItem("cloister-ends")) return say("");
      const at = new Date(JSON.parse(event.data).at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      say(t(`Your access to this space ends on ${at}. Your files are kept: register again, and they are here.`, `Ihr Zugang zu diesem Raum endet am ${at}. Ihre Dateien bleiben: Melden Sie sich neu an, und sie sind da.`), t("All right", "In Ordnung"), () => {
        sessionStorage.setItem("cloister-ends", "seen");
        say("");
      });
    });
    source.addEventListener("ended", (event) => {
      const { reason, home } = JSON.parse(event.data);
      source.close();
      end(reason, home);
    });
  }

  // Whoever only types or points must not be taken for away.
  const SAID_MS = 60_000;
  for (const sign of ["keydown", "pointerdown", "wheel"])
    addEventListener(
      sign,
      (event) => {
        if (!event.isTrusted || Date.now() - said < SAID_MS) return;
        said = Date.now();
        fetch("/_cloister/active", { method: "POST" }).catch(() => (said = 0)); // the next sign says it again
      },
      { capture: true, passive: true },
    );

  const begin = () => {
    document.body.append(box);
    follow();
  };
  if (document.body) begin();
  else addEventListener("DOMContentLoaded", begin);
})();
