// A problem that the page tells in one line: a key of the table of strings, and the values for its braces.

export class Problem extends Error {
  constructor(key, values = {}) {
    super(key);
    this.key = key;
    this.values = values;
  }
}
