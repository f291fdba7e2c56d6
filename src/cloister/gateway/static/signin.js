// The plain sign-in page: the demo's form, and the ways that the operator configured.
const form = document.getElementById("demo");
const to = document.body.dataset.to;
if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const email = document.getElementById("email").value;
    const answer = await fetch("/api/v1/auth/demo", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email, name: email.split("@")[0] }),
    });
    if (answer.ok) location.assign(to);
    else document.getElementById("reason").textContent = (await answer.json()).detail;
  });
}
