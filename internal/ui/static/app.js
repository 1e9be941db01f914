// The page works without this script. With it, its panels follow the fleet: one stream per tab, closed while the tab is hidden.
"use strict";
(() => {
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("page", { createHTML: (text) => text })
    : { createHTML: (text) => text };
  const body = document.body;
  const age = document.getElementById("age");
  let offset = Number(body.dataset.now) - Date.now(); // of the server's clock from this one
  let heard = Date.now(); // when the page last heard from its server
  let source = null;
  let pressed = null; // what the pointer is down on
  const waiting = new Map(); // panels that a person uses at this moment: what they will show

  function period(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + " s";
    if (s < 3600) return Math.floor(s / 60) + "m" + two(s % 60) + "s";
    if (s < 48 * 3600) return Math.floor(s / 3600) + "h" + two(Math.floor((s % 3600) / 60)) + "m";
    return Math.floor(s / 86400) + " d";
  }

  // Times that only grow older are counted here.
  function tick() {
    const now = Date.now() + offset;
    for (const t of document.querySelectorAll("time[data-since]")) {
      const text = period(now - Date.parse(t.dateTime));
      if (t.textContent !== text) t.textContent = text;
    }
    const silent = Date.now() - heard;
    const old = silent > 15000 ? "this page was last updated " + period(silent) + " ago" : "";
    age.textContent = old || (body.classList.contains("lost") ? "not live" : "live");
    body.classList.toggle("stale", silent > 15000);
  }

  function lost(since) {
    const bar = document.getElementById("lost");
    bar.hidden = !since;
    body.classList.toggle("lost", Boolean(since));
    if (since) document.getElementById("lostsince").textContent = since;
  }

  // A panel is replaced as a whole, unless a person types or presses there: a click on what is replaced would be lost. What has the focus gets it
  // again: an element with the same address or name.
  function replace(id, html) {
    const panel = document.querySelector("#p-" + CSS.escape(id) + " .content");
    if (!panel) return;
    const focused = panel.contains(document.activeElement) ? document.activeElement : null;
    if (panel.contains(pressed) || (focused && (focused.tagName === "INPUT" || focused.tagName === "SELECT"))) {
      waiting.set(id, html);
      return;
    }
    waiting.delete(id);
    const scrolled = [...panel.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    const unfolded = [...panel.querySelectorAll("details")].map((e) => e.open);
    panel.innerHTML = policy.createHTML(html);
    panel.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
    panel.querySelectorAll("details").forEach((e, i) => { e.open = unfolded[i] || false; });
    if (focused) {
      const same = [...panel.querySelectorAll(focused.tagName)].find((e) =>
        e.getAttribute("href") === focused.getAttribute("href") && e.getAttribute("aria-label") === focused.getAttribute("aria-label"));
      if (same) same.focus({ preventScroll: true });
    }
  }

  function goOn(e) {
    if (e.type !== "focusout") pressed = null; // pressing takes the focus from elsewhere
    setTimeout(() => { for (const [id, html] of [...waiting]) replace(id, html); }, 0); // after the click
  }

  function open() {
    if (source || document.hidden) return;
    source = new EventSource("/events?page=" + encodeURIComponent(location.pathname + location.search));
    source.addEventListener("status", (e) => {
      const status = JSON.parse(e.data);
      heard = Date.now();
      offset = status.now - heard;
      lost(status.lost);
      tick();
    });
    source.addEventListener("panel", (e) => {
      const panel = JSON.parse(e.data);
      heard = Date.now();
      replace(panel.id, panel.html);
      tick();
    });
    source.addEventListener("error", () => { // a stream that was refused does not come back by itself
      if (source && source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 3000); }
    });
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  document.addEventListener("pointerdown", (e) => { pressed = e.target; });
  for (const name of ["pointerup", "pointercancel", "focusout"]) document.addEventListener(name, goOn);
  document.addEventListener("keydown", (e) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName);
    if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
      const find = document.getElementById("find");
      if (find) { e.preventDefault(); find.focus(); }
    }
  });
  setInterval(tick, 1000);
  tick();
  open();
})();
