// What the graph's numbers mean: the rules of runtime/classifier.py and runtime/verdict.py, number for number.

// The answer for one picture. `label` is null where it shows none of the classes.
export function judgePicture(logits, score, contract, variant) {
  const largest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - largest) / (contract.temperature ?? 1)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const probabilities = weights.map((weight) => weight / total);
  const best = logits.indexOf(largest);
  const isKnown = variant.unknown_threshold === null || score >= variant.unknown_threshold;
  return { label: isKnown ? contract.classes[best] : null, probability: probabilities[best], probabilities, score };
}

// The verdict on a clip by all its frames: the class of the largest mean probability over the frames that show a class,
// or over all frames where none does. Refused where the mean score is below the clip's threshold.
export function judgeClip(frames, contract, variant) {
  const known = frames.filter(({ score }) => score >= (variant.unknown_threshold ?? -Infinity));
  const probabilities = means((known.length ? known : frames).map((frame) => frame.probabilities));
  const threshold = variant.unknown_threshold_clip;
  const [score] = means(frames.map((frame) => [frame.score]));
  const isRefused = threshold === null ? known.length === 0 : score < threshold;
  const probability = Math.max(...probabilities);
  const label = isRefused ? null : contract.classes[probabilities.indexOf(probability)];
  return { label, probability, probabilities, score };
}

// The mean of each column.
function means(rows) {
  const sums = rows.reduce((total, row) => total.map((sum, column) => sum + row[column]));
  return sums.map((sum) => sum / rows.length);
}

// The frames that a clip's verdict is from: the first one at or after each full second.
export class OneASecond {
  #next = 0;

  isDue(seconds) {
    if (seconds < this.#next) return false;
    this.#next = Math.floor(seconds) + 1;
    return true;
  }
}
