// Sends the token; the server answers with a cookie, and the page is loaded again with it.

const trouble = document.getElementById("trouble");

document.getElementById("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  let said = "The server does not answer.";
  try {
    const answer = await fetch("sign-in", { method: "POST", body: document.getElementById("token").value });
    if (answer.ok) {
      location.reload();
      return;
    }
    said = "This is not the token. After ten wrong ones, wait for a minute.";
  } catch {
    // said above
  }
  trouble.textContent = said;
  trouble.hidden = false;
});
