// Puts in what changes on a page, as the service sends it: parts of the page by the id of the element that they fill.
// They are made and escaped by the service. A page that nobody looks at doesn't hold a connection.
'use strict';
(() => {
  const address = document.body.dataset.live;
  if (!address) return;
  const connection = document.getElementById('connection');
  let source = null, over = false;

  const fill = (id, html) => {
    const element = document.getElementById(id);
    if (!element) return;
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id || focused.getAttribute('href'));
    const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - 4;
    element.innerHTML = html;
    if (key) {
      const again = [...element.querySelectorAll('[id], [href]')]
        .find(other => other.id === key || other.getAttribute('href') === key);
      (again || document.getElementById('content')).focus({ preventScroll: true });
    }
    if (atEnd) element.scrollTop = element.scrollHeight;
  };

  const open = () => {
    if (source || over || document.hidden) return;
    source = new EventSource(address);
    source.onopen = () => { connection.hidden = true; };
    source.onmessage = event => Object.entries(JSON.parse(event.data)).forEach(([id, html]) => fill(id, html));
    source.addEventListener('over', () => { over = true; close(); });
    source.onerror = () => { connection.hidden = false; };
  };
  const close = () => { if (source) source.close(); source = null; };

  document.addEventListener('visibilitychange', () => { document.hidden ? close() : open(); });
  addEventListener('pagehide', close);
  addEventListener('pageshow', open);
  const log = document.getElementById('log');
  if (log) log.scrollTop = log.scrollHeight;
  open();
})();
