// A line under the pointer, in all plots at once, with each curve's value there.
const data = JSON.parse(document.getElementById('data').textContent);
const plots = [...document.querySelectorAll('.plot')].map((figure, n) => ({
  area: figure.querySelector('.area'), cross: figure.querySelector('.cross'),
  values: [...figure.querySelectorAll('.legend b')], series: data[n],
}));
const format = (value) => {
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
};
const clock = (s) => {
  const parts = s >= 3600 ? [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60] : [Math.floor(s / 60), s % 60];
  return parts.map((part, n) => (n ? String(Math.floor(part)).padStart(2, '0') : part)).join(':');
};
const nearest = (points, at) => points.reduce((best, point) =>
  Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best, points[0]);
const show = (share) => {
  for (const { area, cross, values, series } of plots) {
    const at = share * Number(area.dataset.until);
    cross.hidden = false;
    cross.style.left = `${share * 100}%`;
    cross.dataset.at = clock(at);
    values.forEach((value, n) => { if (series[n].length) value.textContent = format(nearest(series[n], at)[1]); });
  }
};
const hide = () => {
  for (const { cross, values } of plots) {
    cross.hidden = true;
    for (const value of values) value.textContent = value.dataset.last;
  }
};
for (const { area } of plots) {
  area.addEventListener('pointermove', (event) => {
    const box = area.getBoundingClientRect();
    show(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  });
  area.addEventListener('pointerleave', hide);
}
