// Tells screen readers what an htmx swap brought: each element with data-announce="sentence" is said when its words change.
// Failures (the event cc:say) are also shown, as a note at the top of the page.
(() => {
  "use strict";
  const said = new Map();
  const speak = (sentence) => {
    const place = document.getElementById("announcer");
    if (place) place.textContent = sentence;
  };

  const read = (scope, isQuiet) => {
    const found = [...scope.querySelectorAll("[data-announce]")];
    if (scope.matches && scope.matches("[data-announce]")) found.unshift(scope);
    const news = [];
    for (const element of found) {
      const key = element.dataset.announceKey || element.id || "page";
      const sentence = element.dataset.announce;
      if (said.get(key) !== sentence) news.push(sentence);
      said.set(key, sentence);
    }
    if (news.length && !isQuiet) speak(news.join(" "));
  };

  document.addEventListener("DOMContentLoaded", () => read(document.body, true));
  document.addEventListener("htmx:afterSettle", (event) => read(event.detail.elt, false));
  document.addEventListener("htmx:oobAfterSwap", (event) => read(event.detail.target, false));

  document.addEventListener("cc:say", (event) => {
    const notes = document.getElementById("messages");
    const sentence = event.detail.value ?? event.detail;
    if (!notes) return speak(sentence);
    let note = notes.querySelector("[data-failure]");
    if (!note) {
      note = document.createElement("div");
      note.className = "cc-note is-warn";
      note.dataset.failure = "";
      note.append(document.createElement("span"), document.createElement("p"));
      notes.append(note);
    }
    note.lastChild.textContent = sentence;
  });
  // The next answer that arrives takes the note away: the server is back.
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.successful) document.querySelectorAll("#messages [data-failure]").forEach((note) => note.remove());
  });
})();
