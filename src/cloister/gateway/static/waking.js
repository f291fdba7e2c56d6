// Follows a workspace that starts, then goes on to the address that was asked for.
const order = ["asked", "sandbox", "app", "ready"];
const element = (id) => document.getElementById(id);

function show(step, failed) {
  const at = order.indexOf(step);
  for (const item of document.querySelectorAll("#steps li")) {
    const index = order.indexOf(item.dataset.step);
    item.className = index < at || step === "ready" ? "done" : index === at ? (failed ? "failed" : "now") : "";
  }
}

function follow() {
  const source = new EventSource("/_cloister/start");
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
