// Which theme: the cookie `theme` as the server wrote it on <html>, else what the system prefers. Runs before the first paint.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = root.dataset.bsTheme || "";

  const show = () => { root.dataset.bsTheme = chosen || (system.matches ? "dark" : "light"); };
  system.addEventListener("change", show);
  show();

  const remember = (theme) => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = theme ? 31536000 : 0;
    document.cookie = `theme=${theme}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
  };

  document.addEventListener("DOMContentLoaded", () => {
    const groups = document.querySelectorAll("[data-theme-choice]");
    for (const group of groups) {
      group.hidden = false;
      group.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (!button) return;
        chosen = button.value;
        remember(chosen);
        show();
        for (const other of document.querySelectorAll("[data-theme-choice] button")) {
          other.setAttribute("aria-pressed", String(other.value === chosen));
        }
      });
    }
  });
})();
