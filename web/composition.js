// Keys that belong to an input method: the Enter that takes a proposal of it sends nothing, and its
// arrows choose among proposals. Most browsers say so by `isComposing`; Safari ends the composition
// before that Enter and marks it by the key code 229 alone.
const KEY_CODE_OF_INPUT_METHOD = 229;

// The Enter of the same task is at most this much later. A busy browser may handle the next key
// before the timer below, so that the flag alone would swallow an Enter that is meant.
const SAME_TASK_MS = 5;

let hasJustEnded = false; // in this very task
let endedAt = 0;

document.addEventListener('compositionend', (event) => {
  hasJustEnded = true;
  endedAt = event.timeStamp;
  setTimeout(() => { hasJustEnded = false; }, 0);
}, { capture: true });

export function isOfInputMethod(event) {
  return event.isComposing || event.keyCode === KEY_CODE_OF_INPUT_METHOD ||
    (event.key === 'Enter' && hasJustEnded && event.timeStamp - endedAt < SAME_TASK_MS);
}
