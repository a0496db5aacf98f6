/**
 * One stream of events for all tabs: a browser opens six connections to a host, so that a stream for
 * each tab would leave the seventh without an answer. As a shared worker it serves them all; where
 * there is none, each page has a hub of its own. The stream is of the window of the tab that was
 * looked at last; it is closed a minute after the last one that was.
 */

const QUIET_MS = 60_000;
const EVENTS = ['snapshot', 'health', 'alerts', 'status'];
const RETRY_MS = [2_000, 4_000, 8_000, 15_000];

export class Hub {
  #tabs = new Map();
  #last = new Map();
  #source = null;
  #window = '';
  #tries = 0;
  #timer = 0;

  constructor() {
    setInterval(() => this.#closeIfQuiet(), QUIET_MS / 6);
  }

  /** Serve a tab. It says {window, visible} at each change and every 20 s, at last {bye}. */
  join(port) {
    port.onmessage = ({ data }) => {
      if (data.bye) this.#tabs.delete(port);
      else this.#hear(port, data);
    };
    port.start();
  }

  #hear(port, { window, visible }) {
    const known = this.#tabs.get(port);
    const now = Date.now();
    this.#tabs.set(port, { window, seen: visible ? now : (known?.seen ?? 0), heard: now });
    if (!known) for (const message of this.#last.values()) port.postMessage(message);
    const changed = visible && (!known?.visible || known.window !== window);
    this.#tabs.get(port).visible = visible;
    if (visible && (!this.#source || (changed && this.#window !== window))) this.#open(window);
  }

  #open(window) {
    this.#close();
    this.#window = window;
    this.#last.delete('snapshot');
    const source = new EventSource(`/api/stream?window=${window}`);
    this.#source = source;
    source.onopen = () => {
      this.#tries = 0;
      this.#tell('link', 'open');
    };
    source.onerror = () => {
      this.#tell('link', 'lost');
      if (source.readyState !== EventSource.CLOSED) return;
      // An answer that is no stream, such as 503: the browser does not try again by itself.
      const wait = RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)];
      this.#timer = setTimeout(() => this.#open(this.#window), wait);
    };
    for (const event of EVENTS) source.addEventListener(event, ({ data }) => this.#tell(event, JSON.parse(data)));
  }

  #tell(event, data) {
    const message = { event, data, window: this.#window, at: Date.now() };
    this.#last.set(event, message);
    for (const port of this.#tabs.keys()) port.postMessage(message);
  }

  #closeIfQuiet() {
    const since = Date.now() - QUIET_MS;
    // A tab that was closed without a word is not heard of any more; a hidden one says something each minute.
    for (const [port, tab] of this.#tabs) if (tab.heard < since - 2 * QUIET_MS) this.#tabs.delete(port);
    if (this.#source && ![...this.#tabs.values()].some((tab) => tab.seen > since)) {
      this.#close();
      this.#tell('link', 'closed');
    }
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}

if ('onconnect' in self) {
  const hub = new Hub();
  self.onconnect = ({ ports }) => hub.join(ports[0]);
}
