// The last minutes, second by second: what happened between two answers, out of sums that only grow.

const SPAN = 180;
// After a longer silence, a rate would be an average of what nobody saw.
const GAP = 4;
const ALL = "";

class Recent {
  constructor() {
    this.before = new Map();
    this.time = null;
    this.points = new Map([[ALL, []]]);
  }

  // Takes a state's figures, as of `now` in seconds.
  take(models, now) {
    const serving = models.filter((model) => model.figures);
    const gap = this.time === null ? 0 : now - this.time;
    const total = { ok: 0, failed: 0, rows: 0, batches: 0, latency: new Map() };
    const seen = new Map();
    for (const model of serving) {
      const id = `${model.name}@${model.version}`;
      const figures = { ...model.figures, latency: new Map(model.figures.latency) };
      const before = this.before.get(id);
      seen.set(id, figures);
      const news = difference(before, figures);
      add(total, news);
      if (!this.points.has(id)) this.points.set(id, []);
      this.push(id, now, gap, before ? news : null);
    }
    this.push(ALL, now, gap, this.time === null ? null : total);
    for (const [id, points] of this.points) {
      while (points.length && points[0].time < now - SPAN - 2) points.shift();
      if (id !== ALL && !seen.has(id) && !points.length) this.points.delete(id);
    }
    this.before = seen;
    this.time = now;
  }

  push(id, now, gap, news) {
    const is_known = news && gap > 0 && gap < GAP;
    this.points.get(id).push({
      time: now,
      ok: is_known ? news.ok / gap : null,
      failed: is_known ? news.failed / gap : null,
      p50: is_known ? percentile(news.latency, 0.5) : null,
      p99: is_known ? percentile(news.latency, 0.99) : null,
      rows: is_known && news.batches ? news.rows / news.batches : null,
    });
  }
}

const COUNTS = ["ok", "failed", "rows", "batches"];

// A version that has begun anew counts from nothing.
function difference(before, after) {
  const old = before && COUNTS.every((name) => before[name] <= after[name]) ? before : null;
  const news = Object.fromEntries(COUNTS.map((name) => [name, after[name] - (old ? old[name] : 0)]));
  news.latency = new Map();
  for (const [end, count] of after.latency) {
    const more = count - (old ? old.latency.get(end) ?? 0 : 0);
    if (more > 0) news.latency.set(end, more);
  }
  return news;
}

function add(total, news) {
  for (const name of COUNTS) total[name] += news[name];
  for (const [end, count] of news.latency) total.latency.set(end, (total.latency.get(end) ?? 0) + count);
}

// Within its bucket, which is about a fifth wide, a time is taken to lie where its rank does.
function percentile(latency, share) {
  const buckets = [...latency].sort(([a], [b]) => a - b);
  const rank = share * buckets.reduce((sum, [, count]) => sum + count, 0);
  let below = 0;
  for (const [end, count] of buckets) {
    if (below + count >= rank) return end * (0.84 + 0.16 * ((rank - below) / count));
    below += count;
  }
  return null;
}

