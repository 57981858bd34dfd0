// The fields of the dialogs, and their validation.
const encoder = new TextEncoder();

// Validates a field: `required` accepts spaces, and `maxlength` does not count bytes. If it is
// invalid, the browser shows the reason beside it.
export function isFilled(field, bytesMax = Infinity) {
  const text = field.value.trim();
  let problem = '';
  if (text === '') problem = 'Spaces alone will not do.';
  else if (encoder.encode(text).length > bytesMax) problem = `At most ${bytesMax} bytes, please: this is too long.`;
  field.setCustomValidity(problem);
  return field.reportValidity();
}

// Later input is validated again, because a field may change another one of its form.
export function acquit(form) {
  for (const field of form.querySelectorAll('input')) field.setCustomValidity('');
}

for (const form of document.querySelectorAll('dialog form')) {
  form.addEventListener('input', () => acquit(form));
}
