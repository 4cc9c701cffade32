/** How long a condition may take to become true, in milliseconds. */
export const PATIENCE = 20_000;

/** Asks `condition` until it gives something true, and returns that; an exception in it ends the wait. */
export async function until(what, condition, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${patience} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
