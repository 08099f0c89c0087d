// Keeps what is being typed in an element marked data-keeps-typed over the swaps of that element: text, caret and choice.
// Open <details> and focus are focus.js's part.
(() => {
  "use strict";
  let kept = [];

  const fields = (scope) => scope.querySelectorAll("textarea[id], input[id]:not([type=hidden])");

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target } = event.detail;
    if (!target.matches("[data-keeps-typed]")) return;
    kept = [...fields(target)].map((field) => ({
      id: field.id,
      value: field.value,
      checked: field.checked,
      start: field.selectionStart,
      end: field.selectionEnd,
    }));
  });

  document.addEventListener("htmx:afterSettle", () => {
    for (const { id, value, checked, start, end } of kept) {
      const field = document.getElementById(id);
      if (!field) continue;
      if (checked !== undefined && (field.type === "radio" || field.type === "checkbox")) field.checked = checked;
      else field.value = value;
      if (start !== null && start !== undefined && field.setSelectionRange) field.setSelectionRange(start, end);
    }
    kept = [];
  });
})();
