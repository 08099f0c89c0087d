// What every htmx request carries, and what is said when it fails. Swaps of 409 and 422 are configured in the head.
// A server that has its own sentence for a refusal sends it as the header HX-Trigger: {"cc:say": "sentence"}.
(() => {
  "use strict";
  const SAFE = new Set(["get", "head", "options"]);

  document.addEventListener("htmx:configRequest", (event) => {
    const token = document.querySelector('meta[name="csrf-token"]');
    if (token && !SAFE.has(event.detail.verb)) event.detail.headers["X-CSRFToken"] = token.content;
  });

  // What asks by itself asks less and less often while the server does not answer, and as before once it does.
  const SHORTEST = 3000;
  const LONGEST = 30000;
  let pause = 0;
  let quietUntil = 0;
  const asksByItself = (event) => event.detail.requestConfig && !event.detail.requestConfig.triggeringEvent;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (asksByItself(event) && performance.now() < quietUntil) event.preventDefault();
  });
  const rest = () => {
    if (performance.now() < quietUntil) return; // the others that were under way at the same moment
    pause = Math.min(LONGEST, Math.max(SHORTEST, pause * 2));
    quietUntil = performance.now() + pause;
  };
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) document.addEventListener(name, (event) => asksByItself(event) && rest());
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.successful) pause = quietUntil = 0;
  });

  const say = (sentence) => document.dispatchEvent(new CustomEvent("cc:say", { detail: sentence }));
  document.addEventListener("htmx:sendError", () => say("The server does not answer. What you see may be out of date."));
  document.addEventListener("htmx:timeout", () => say("The server takes too long. What you see may be out of date."));
  document.addEventListener("htmx:responseError", (event) => {
    const { xhr } = event.detail;
    const status = xhr.status;
    if ((xhr.getResponseHeader("HX-Trigger") || "").includes("cc:say")) return;
    if (status === 401) say("You are signed out. What you wrote stays here: copy it, then load the page again to sign in.");
    else if (status === 403) say("You may not do this, or the page is out of date. Load it again.");
    else if (status === 404) say("This is no longer here. Load the page again.");
    else if (status === 429) say("Too many tries. Wait a little and try again.");
    else say(`The server could not do this (${status}). Nothing was changed by this page.`);
  });
})();
