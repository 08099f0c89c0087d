// An element marked data-keeps-typed keeps what a person is doing in it over its own swaps: text, caret, choices, open
// details and focus. Kept by the element's id, so that swaps elsewhere at the same moment do not get in between.
(() => {
  "use strict";
  const kept = new Map();

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target } = event.detail;
    if (!target.matches("[data-keeps-typed][id]")) return;
    const active = document.activeElement;
    kept.set(target.id, {
      fields: [...target.querySelectorAll("textarea[id], input[id]:not([type=hidden])")].map((field) => ({
        id: field.id,
        value: field.value,
        checked: field.checked,
        caret: [field.selectionStart, field.selectionEnd],
      })),
      opened: [...target.querySelectorAll("details[id][open]")].map((details) => details.id),
      focused: target.contains(active) ? focusable(active) : "",
    });
  });

  document.addEventListener("htmx:afterSettle", (event) => {
    const found = kept.get(event.detail.elt.id);
    if (!found) return;
    kept.delete(event.detail.elt.id);
    for (const id of found.opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    const again = found.focused && document.querySelector(found.focused);
    if (again) again.focus({ preventScroll: true });
    for (const { id, value, checked, caret } of found.fields) {
      const field = document.getElementById(id);
      if (!field) continue;
      if (field.type === "radio" || field.type === "checkbox") field.checked = checked;
      else field.value = value;
      if (typeof caret[0] === "number") field.setSelectionRange(...caret);
    }
  });

  const focusable = (element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const details = element.tagName === "SUMMARY" && element.parentElement.id;
    if (details) return `#${CSS.escape(details)} > summary`;
    return element.name ? `[name="${CSS.escape(element.name)}"][value="${CSS.escape(element.value)}"]` : "";
  };
})();
