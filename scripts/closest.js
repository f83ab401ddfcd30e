// What was probably meant by a name that nobody knows.
"use strict";

// How many letters were left out, added or exchanged (Levenshtein's distance); capitals do not count.
const distance = (a, b) => {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
};

// The nearest of the names, or nothing where none resembles it.
const closest = (name, names) => {
  const [nearest] = names
    .map((candidate) => [candidate, distance(name.toLowerCase(), candidate.toLowerCase())])
    .sort(([, a], [, b]) => a - b);
  return nearest && nearest[1] <= Math.max(2, Math.floor(name.length / 3)) ? nearest[0] : "";
};

module.exports = { closest };
