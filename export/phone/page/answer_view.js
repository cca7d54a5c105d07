// Shows an answer: the class in large letters, the shares of the most probable classes, and words for screen readers.

import { percent, text } from "./strings.js";

const MOST_SHARES = 3;
const QUIET_MILLISECONDS = 2000; // a live answer is spoken when it changes, and not more often than this

export class AnswerView {
  #element;
  #spoken = "";
  #spokenAt = -Infinity;

  constructor(element) {
    this.#element = element;
  }

  // Shows an answer. `state` says what it is about: live, a picture, a clip.
  show(answer, contract, state) {
    const label = answer.label ?? text("none");
    this.#part("state").textContent = state;
    this.#part("label").textContent = label;
    this.#element.classList.toggle("none", answer.label === null);
    const order = answer.probabilities.map((_, column) => column);
    order.sort((one, other) => answer.probabilities[other] - answer.probabilities[one]);
    const rows = order.slice(0, MOST_SHARES).map((column) => row(contract.classes[column], answer.probabilities[column]));
    this.#part("shares").replaceChildren(...rows);
    const values = { label, percent: percent(answer.probability) };
    this.#speak(answer.label === null ? label : text("spoken", values), label);
  }

  // Shows a text in the label's place, and no shares.
  say(state, label = "") {
    this.#part("state").textContent = state;
    this.#part("label").textContent = label;
    this.#part("shares").replaceChildren();
    this.#element.classList.remove("none");
  }

  // Speaks the next answer, even one of the same class.
  forgetSpoken() {
    this.#spoken = "";
    this.#spokenAt = -Infinity;
  }

  #speak(words, label) {
    const now = performance.now();
    if (label === this.#spoken || now - this.#spokenAt < QUIET_MILLISECONDS) return;
    this.#spoken = label;
    this.#spokenAt = now;
    this.#part("spoken").textContent = words;
  }

  #part(id) {
    return this.#element.querySelector(`#${id}`);
  }
}

function row(name, share) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = name;
  label.dir = "auto";
  const meter = document.createElement("meter");
  meter.value = share;
  meter.setAttribute("aria-label", name);
  const number = document.createElement("span");
  number.textContent = percent(share);
  item.append(label, meter, number);
  return item;
}
