// A <button data-copy="text"> shows itself where the browser can copy, copies, and says so.
(() => {
  "use strict";
  if (!navigator.clipboard) return;
  const reveal = () => document.querySelectorAll("button[data-copy][hidden]").forEach((button) => { button.hidden = false; });

  document.addEventListener("DOMContentLoaded", reveal);
  document.addEventListener("htmx:afterSettle", reveal);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const place = document.getElementById("announcer");
    if (place) place.textContent = "Copied.";
  });
})();
