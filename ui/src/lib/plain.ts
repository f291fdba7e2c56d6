// The Markdown of agreements, as safe HTML: every character is escaped first, and only our own tags are added.
const escape = (text: string) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
const inline = (text: string) => escape(text).replace(/\*\*(.+?)\*\*/g, "<strong>$1</strong>").replace(/\*(.+?)\*/g, "<em>$1</em>").replace(/`(.+?)`/g, "<code>$1</code>");

/** Headings, lists, paragraphs and emphasis: what terms are written in. */
export function plain(markdown: string): string {
  const out: string[] = [];
  for (const block of markdown.replaceAll("\r\n", "\n").split(/\n{2,}/)) {
    const lines = block.split("\n").filter((line) => line.trim());
    if (!lines.length) continue;
    const heading = /^(#{1,4})\s+(.*)$/.exec(lines[0] as string);
    if (heading) {
      const level = Math.min((heading[1] as string).length + 1, 5);
      out.push(`<h${level}>${inline(heading[2] as string)}</h${level}>`);
      lines.shift();
    }
    if (!lines.length) continue;
    const kind = lines.every((line) => /^\s*[-*]\s/.test(line)) ? "ul" : /^\s*\d+\.\s/.test(lines[0] as string) ? "ol" : "p";
    if (kind === "p") out.push(`<p>${inline(lines.join(" "))}</p>`);
    else {
      const items: string[] = [];
      for (const line of lines) {
        if (/^\s*([-*]|\d+\.)\s/.test(line)) items.push(line.replace(/^\s*([-*]|\d+\.)\s+/, ""));
        else items[items.length - 1] += ` ${line.trim()}`;
      }
      out.push(`<${kind}>${items.map((item) => `<li>${inline(item)}</li>`).join("")}</${kind}>`);
    }
  }
  return out.join("\n");
}
