// Replaces the page's stream by one that is in the state which the address names as #state=...: the
// events are the service's own, changed where the state says so.
const wanted = location.hash.replace('#state=', '');
const silent = ['loading'];
delete window.SharedWorker;

class Stream extends EventTarget {
  constructor(url) {
    super();
    this.readyState = 1;
    if (!silent.includes(wanted)) this.play(url);
    else document.documentElement.dataset.state = wanted;
  }

  async play(url) {
    const events = await first(url);
    change[wanted]?.(events);
    this.onopen?.();
    for (const name in events) {
      this.dispatchEvent(Object.assign(new Event(name), { data: JSON.stringify(events[name]) }));
    }
    if (wanted === 'reconnecting') this.onerror?.();
    if (wanted === 'stale') {
      this.onerror?.();
      const now = Date.now;
      Date.now = () => now() + 95_000;
    }
    document.documentElement.dataset.state = wanted;
  }

  close() {}
}
Object.assign(Stream, { CLOSED: 2 });

const change = {
  standby(events) {
    Object.assign(events.status, { role: 'standby', revision: null, as_of: null, lag_s: null });
    delete events.snapshot;
  },
  'log-away': ({ status, health }) => {
    Object.assign(status, { log: 'away', lag_s: 40 });
    Object.assign(health.log, { writable: false, message: 'the database of the log does not answer' });
  },
  'never-had-data': ({ snapshot }) => {
    clear(snapshot);
    Object.assign(snapshot.quality, { events: 0, query_timings: 0 });
  },
  'longer-than-history': ({ status }) => {
    status.data_since = new Date(Date.parse(status.as_of) - 6 * 86_400_000).toISOString();
  },
};

// Of a time in which nothing was counted.
function clear({ funnel, business, errors, performance }) {
  for (const step of funnel.steps) Object.assign(step, { actors: 0, dropped: 0 });
  Object.assign(funnel, { entered: 0, converted: 0, abandoned: 0, open: 0, matured: null, overall: null });
  Object.assign(business, { confirmed: 0, cancelled: 0, revenue: [], packages: [] });
  Object.assign(errors, { breakdown: [], error_rate: { numerator: 0, denominator: 0, value: null } });
  Object.assign(performance.queries, { total: 0, slow_warning: 0, slow_critical: 0, execute: { count: 0 } });
  performance.rpcs = [];
}

// The first event of each kind.
async function first(url) {
  const events = {};
  const reader = (await fetch(url)).body.getReader();
  let text = '';
  while (['snapshot', 'health', 'alerts', 'status'].some((name) => !events[name])) {
    text += new TextDecoder().decode((await reader.read()).value);
    for (const [, name, data] of text.matchAll(/event: (\w+)\n(?:id: .*\n)?data: (.*)\n\n/g)) events[name] = JSON.parse(data);
  }
  await reader.cancel();
  return events;
}

window.EventSource = Stream;

// What is asked beside the stream: nothing is answered while the page loads, figures are those of
// another process on a standby, and none where nothing was ever counted.
const ask = window.fetch;
window.fetch = async (url, options) => {
  const path = String(url);
  if (wanted === 'loading') return new Promise(() => {});
  if (wanted === 'standby' && /Get(Metrics|Series|Funnel|QueryStats)|ListSlow/.test(path)) {
    const refused = { error: 'Service Unavailable', reason: 'STARTING', description: 'The service does not serve yet.' };
    return new Response(JSON.stringify(refused), { status: 503 });
  }
  const answer = await ask(url, options);
  if (wanted !== 'never-had-data' || !/GetSeries|GetQueryStats/.test(path)) return answer;
  const body = await answer.json();
  for (const series of body.series ?? []) for (const point of series.points) point.value = null;
  if (body.groups) Object.assign(body, { groups: [], total: { total: 0, failed: 0, total_time_ms: 0 }, internal: null });
  return new Response(JSON.stringify(body));
};
