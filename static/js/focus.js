// Focus goes to the error summary when a page or a swap brings one, and stays where it was over any other swap.
// A <details id> that was open is open again afterwards.
(() => {
  "use strict";
  const name = (element) => {
    if (!element || element === document.body) return null;
    if (element.id) return `#${CSS.escape(element.id)}`;
    const tag = element.tagName.toLowerCase();
    if (element.name) {
      const value = element.tagName === "BUTTON" ? `[value="${CSS.escape(element.value)}"]` : "";
      return `${tag}[name="${CSS.escape(element.name)}"]${value}`;
    }
    const href = element.getAttribute("href");
    return href ? `${tag}[href="${CSS.escape(href)}"]` : null;
  };

  let focused = null;
  let opened = [];

  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    focused = target.contains(document.activeElement) ? name(document.activeElement) : null;
    opened = [...target.querySelectorAll("details[id][open]")].map((details) => details.id);
  });

  const takeFocus = (scope) => {
    const summary = scope.querySelector("[data-takes-focus]");
    if (summary) summary.focus();
    return Boolean(summary);
  };

  document.addEventListener("htmx:afterSettle", (event) => {
    for (const id of opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    opened = [];
    const hadFocus = focused;
    focused = null;
    if (takeFocus(event.detail.elt) || !hadFocus || document.activeElement !== document.body) return;
    const again = document.querySelector(hadFocus);
    if (again) again.focus({ preventScroll: true });
    else document.getElementById("main")?.focus({ preventScroll: true });
  });

  document.addEventListener("DOMContentLoaded", () => takeFocus(document));
})();
