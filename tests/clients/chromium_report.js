// What is wrong with the labels of all charts of a document, in words.
() => {
  // Half a pixel is rounding.
  const SLACK = 0.5;
  // WCAG 2.1 SC 1.4.3.
  const CONTRAST_MIN = 4.5;

  const told = element => `"${element.textContent}" (${element.getAttribute("class")})`;
  const covers = (a, b) =>
    a.left < b.right - SLACK && b.left < a.right - SLACK && a.top < b.bottom - SLACK && b.top < a.bottom - SLACK;
  const leaves = (inner, outer) =>
    inner.left < outer.left - SLACK || inner.right > outer.right + SLACK ||
    inner.top < outer.top - SLACK || inner.bottom > outer.bottom + SLACK;

  const luminance = colour => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map(part => part / 255)
      .map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = document.querySelector(".paper");
  const background = paper ? getComputedStyle(paper).fill : getComputedStyle(document.body).backgroundColor;

  const faults = [];
  for (const svg of document.querySelectorAll("svg")) {
    const box = svg.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("text")].map(label => [label, label.getBoundingClientRect()]);
    const bars = [...svg.querySelectorAll(".bar")].map(bar => bar.getBoundingClientRect());
    labels.forEach(([label, at], number) => {
      if (leaves(at, box)) faults.push(`${told(label)} leaves its chart`);
      if (contrast(getComputedStyle(label).fill, background) < CONTRAST_MIN) faults.push(`${told(label)} is pale`);
      if (bars.some(bar => covers(at, bar))) faults.push(`${told(label)} lies on a bar`);
      for (const [other, there] of labels.slice(number + 1)) {
        if (covers(at, there)) faults.push(`${told(label)} lies on ${told(other)}`);
      }
    });
  }
  return faults;
}
