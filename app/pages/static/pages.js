// Says whether the overview is live, and closes its stream while nobody sees the page.
"use strict";
(function () {
  var line = document.getElementById("stream");
  var source = null;
  var closed = false;
  var alerts = null;

  function say(text, lost) {
    if (line.textContent !== text) { line.textContent = text; }
    line.classList.toggle("lost", lost);
  }

  function count() {
    var shown = document.querySelector("#open-alerts .count");
    return shown ? shown.textContent : "unknown";
  }

  // A browser has six connections to a host: pages in the background must not hold them.
  function rest() {
    if (source) { source.close(); closed = true; }
  }

  htmx.createEventSource = function (url) {
    source = new EventSource(url);
    // The session is over: what is on the page is out of date, and trying again is of no use.
    source.addEventListener("ended", function () {
      closed = true;
      source.close();
      say("The session has ended: log in again.", true);
      window.location.assign("/login");
    });
    // Also a page that was opened in the background, and a connection that is tried again there.
    if (document.visibilityState === "hidden") { rest(); }
    return source;
  };

  document.body.addEventListener("htmx:sseOpen", function () { say("Live.", false); });
  document.body.addEventListener("htmx:sseError", function () {
    say("Not live: the connection is lost, and is tried again. Figures below are old.", true);
    // Refused, and not only lost: after a restart of the server everybody has to log in again.
    if (source && source.readyState === EventSource.CLOSED) {
      fetch(window.location.href, { redirect: "manual" }).then(function (answer) {
        if (answer.type === "opaqueredirect") { window.location.assign("/login"); }
      }).catch(function () {});
    }
  });
  document.body.addEventListener("htmx:sseMessage", function () {
    // Read out only what a person must hear: a number of alerts that has changed.
    var now = count();
    say(alerts !== null && now !== alerts ? "Live. Open alerts: " + now + "." : line.textContent.indexOf("Live") === 0 ? line.textContent : "Live.", false);
    alerts = now;
  });

  document.addEventListener("visibilitychange", function () {
    if (document.visibilityState === "hidden") {
      rest();
    } else if (closed) {
      window.location.reload();
    }
  });
})();
