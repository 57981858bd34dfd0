// Keys that belong to an input method: the Enter that takes a proposal of it sends nothing, and its
// arrows choose among proposals. Most browsers say so by `isComposing`; Safari ends the composition
// before that Enter and marks it by the key code 229 alone.
const KEY_CODE_OF_INPUT_METHOD = 229;

let hasJustEnded = false; // in this very task

document.addEventListener('compositionend', () => {
  hasJustEnded = true;
  setTimeout(() => { hasJustEnded = false; }, 0);
}, { capture: true });

export function isOfInputMethod(event) {
  return event.isComposing || event.keyCode === KEY_CODE_OF_INPUT_METHOD ||
    (event.key === 'Enter' && hasJustEnded);
}
