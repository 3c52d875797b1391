/**
 * When requests are sent. Open loop: gaps are drawn from a gamma distribution with the given burstiness and mean 1 / rate, whatever the server
 * does; burstiness 1 is a Poisson process, smaller is burstier, larger more even.
 */
export function arrivalTimesMs(count: number, requestRate: number, burstiness: number, random: () => number): Float64Array {
  const times = new Float64Array(count);
  if (!Number.isFinite(requestRate)) return times;
  let at = 0;
  for (let i = 0; i < count; i++) {
    times[i] = at;
    at += (1000 / requestRate) * (gamma(burstiness, random) / burstiness);
  }
  return times;
}

/** One draw of a gamma variable of mean `shape` and scale 1 (Marsaglia and Tsang 2000; boosted for shapes below 1). */
function gamma(shape: number, random: () => number): number {
  if (shape === 1) return -Math.log(1 - random());
  if (shape < 1) return gamma(shape + 1, random) * (1 - random()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random);
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
