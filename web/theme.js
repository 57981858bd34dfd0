// Runs before the first paint, so that a chosen theme never flashes the other one. Not a module:
// modules run only after the page has been parsed.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem('raftogram.theme');
  } catch {
    // no storage: the system's theme
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
