// Follows a workspace that starts, then goes on to the address that was asked for.
const order = ["asked", "sandbox", "app", "ready"];
if (navigator.language.startsWith("de")) {
  document.documentElement.lang = "de";
  for (const one of document.querySelectorAll("[data-de]")) one.textContent = one.dataset.de;
  document.title = document.querySelector("h1").textContent;
}
const element = (id) => document.getElementById(id);

function show(step, failed) {
  const at = order.indexOf(step);
  for (const item of document.querySelectorAll("#steps li")) {
    const index = order.indexOf(item.dataset.step);
    item.className = index < at || step === "ready" ? "done" : index === at ? (failed ? "failed" : "now") : "";
  }
}

let wait = 500;

// A stream that was answered with an error: with a refusal, which is shown, or because the platform is away for a moment.
async function again() {
  const asked = new AbortController();
  try {
    const answer = await fetch("/_cloister/start", { signal: asked.signal });
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) {
      const problem = await answer.json().catch(() => ({}));
      return refused(problem.detail || `This did not work (${answer.status}).`);
    }
  } catch {
    // nobody answers: once more, later
  } finally {
    asked.abort();
  }
  wait = Math.min(wait * 2, 15000);
  setTimeout(follow, wait);
}

function refused(reason) {
  show("asked", true);
  element("reason").textContent = reason;
}

function follow() {
  const source = new EventSource("/_cloister/start");
  source.addEventListener("error", () => source.readyState === EventSource.CLOSED && void again());
  source.addEventListener("ended", (event) => {
    source.close();
    refused(JSON.parse(event.data).reason);
  });
  source.addEventListener("step", (event) => {
    const news = JSON.parse(event.data);
    show(news.step, news.failed);
    element("reason").textContent = news.reason || "";
    if (news.step === "ready") {
      source.close();
      location.reload();
    }
    if (news.failed) {
      source.close();
      element("actions").hidden = !news.can_restart;
      if (news.output) {
        element("log").hidden = false;
        element("output").textContent = news.output;
      }
    }
  });
}

for (const [id, safe] of [["restart", false], ["safe", true]]) {
  element(id).addEventListener("click", async () => {
    element("actions").hidden = element("log").hidden = true;
    element("reason").textContent = "";
    await fetch("/_cloister/restart", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ safe }) });
    follow();
  });
}
show("asked");
follow();
