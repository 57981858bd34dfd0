// The fields of the dialogs, and when they are filled well enough.
const encoder = new TextEncoder();

// Whether a field says anything: `required` takes spaces for an answer, and `maxlength` counts no
// bytes. If not, the browser tells why beside it.
export function isFilled(field, bytesMax = Infinity) {
  const text = field.value.trim();
  let problem = '';
  if (text === '') problem = 'Spaces alone will not do.';
  else if (encoder.encode(text).length > bytesMax) problem = `At most ${bytesMax} bytes, please: this is too long.`;
  field.setCustomValidity(problem);
  return field.reportValidity();
}

// What is typed or filled in next is judged anew: a field may change another one of its form.
export function acquit(form) {
  for (const field of form.querySelectorAll('input')) field.setCustomValidity('');
}

for (const form of document.querySelectorAll('dialog form')) {
  form.addEventListener('input', () => acquit(form));
}
