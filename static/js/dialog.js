// Opens and closes <dialog> where the browser does not know command buttons; a click beside the dialog closes it everywhere.
(() => {
  "use strict";
  const isBuiltIn = "commandForElement" in HTMLButtonElement.prototype;

  document.addEventListener("click", (event) => {
    if (event.target instanceof HTMLDialogElement && event.target.open) return event.target.close();
    if (isBuiltIn) return undefined;
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens)?.showModal();
    const closer = event.target.closest("[data-closes]");
    if (closer) document.getElementById(closer.dataset.closes)?.close();
    return undefined;
  });
})();
