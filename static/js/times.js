// Keeps ages, time left and clocks current. The server wrote all of them; this only counts on from what it wrote, by the
// server's clock: a viewer's wrong clock changes nothing.
(() => {
  "use strict";
  const NBSP = "\u00a0";
  const EVERY = 5000;
  const starts = new WeakMap();

  const pair = (large, unit, small, smallUnit) =>
    small ? `${large}${NBSP}${unit} ${small}${NBSP}${smallUnit}` : `${large}${NBSP}${unit}`;

  const duration = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) return `${whole}${NBSP}s`;
    if (whole < 3600) return `${Math.floor(whole / 60)}${NBSP}min`;
    if (whole < 86400) return pair(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
    return pair(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
  };

  // The moment the server meant by "now" for this element, counted on since the element was first seen.
  const now = (element, written) => {
    if (!starts.has(element)) starts.set(element, performance.now());
    return Date.parse(written) + (performance.now() - starts.get(element));
  };

  const write = (element, words) => {
    if (element.textContent !== words) element.textContent = words;
  };

  const tick = () => {
    for (const element of document.querySelectorAll("[data-age-of]")) {
      write(element, duration((now(element, element.dataset.ageAt) - Date.parse(element.dataset.ageOf)) / 1000));
    }
    for (const element of document.querySelectorAll("[data-left-until]")) {
      write(element, duration((Date.parse(element.dataset.leftUntil) - now(element, element.dataset.ageAt)) / 1000));
    }
    for (const element of document.querySelectorAll("time[data-clock]")) {
      const zone = element.textContent.split(/\s/).pop();
      const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: element.dataset.clock || "UTC" };
      const shown = new Intl.DateTimeFormat("en-GB", options).format(now(element, element.dateTime));
      write(element, `${shown}${NBSP}${zone}`);
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    tick();
    setInterval(tick, EVERY);
  });
  document.addEventListener("htmx:afterSettle", tick);
})();
