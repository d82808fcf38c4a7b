// Asks the server for its state, again and again while somebody looks, and tells what comes, or that nothing does.

const PERIOD = 1000;
const PATIENCE = 5000;

class Server {
  constructor(onstate, onlost) {
    this.onstate = onstate;
    this.onlost = onlost;
    this.timer = null;
    this.asking = false;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.look()));
  }

  // Nobody looks: the server is left alone.
  rest() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  async look() {
    if (this.asking || document.hidden) return;
    this.rest();
    this.asking = true;
    let state = null;
    let why = "";
    try {
      const answer = await fetch("/console/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (answer.ok) state = await answer.json();
      else why = `it answers ${answer.status}`;
    } catch {
      // No answer, or one that is no state: the same to whoever looks.
    }
    this.asking = false;
    if (!document.hidden) this.timer = setTimeout(() => this.look(), PERIOD);
    if (state) this.onstate(state);
    else this.onlost(why);
  }
}

