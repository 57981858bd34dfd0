// Recognises keys that belong to an input method: its Enter accepts a proposal and must not send,
// and its arrows choose among proposals. Most browsers report this by `isComposing`. Safari ends
// the composition before that Enter and marks the key only by the key code 229.
const KEY_CODE_OF_INPUT_METHOD = 229;

// The Enter of the same task comes at most this much later. A busy browser may handle the next key
// before the timer below, so the flag alone would suppress an intended Enter.
const SAME_TASK_MS = 5;

let hasJustEnded = false; // in this task
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
