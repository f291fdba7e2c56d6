"use strict";
const KINDS = { iVBOR: "png", "/9j/": "jpeg", R0lG: "gif", PHN2: "svg+xml", UklG: "webp" };
const picture = document.querySelector("img");

function draw() {
  const { data, config } = cloister;
  const text = typeof data === "string" ? data : "";
  const kind = Object.entries(KINDS).find(([start]) => text.startsWith(start));
  picture.src = text.startsWith("data:image/") ? text : kind ? `data:image/${kind[1]};base64,${text}` : "data:,";
  picture.alt = config.alt || "";
  picture.style.objectFit = config.fit || "contain";
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
