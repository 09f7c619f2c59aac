/** Letters of TeX's alphabets as characters of their own: browsers leave MathML's `mathvariant` undone. */

interface Alphabet {
  upper?: number;
  lower?: number;
  digits?: number;
  greek?: { upper: number; lower: number };
}

/** Where each alphabet begins, Unicode's block "Mathematical Alphanumeric Symbols". */
const ALPHABETS: Record<string, Alphabet> = {
  bold: { upper: 0x1d400, lower: 0x1d41a, digits: 0x1d7ce, greek: { upper: 0x1d6a8, lower: 0x1d6c2 } },
  italic: { upper: 0x1d434, lower: 0x1d44e, greek: { upper: 0x1d6e2, lower: 0x1d6fc } },
  "bold-italic": { upper: 0x1d468, lower: 0x1d482, digits: 0x1d7ce, greek: { upper: 0x1d71c, lower: 0x1d736 } },
  script: { upper: 0x1d49c, lower: 0x1d4b6 },
  fraktur: { upper: 0x1d504, lower: 0x1d51e },
  "double-struck": { upper: 0x1d538, lower: 0x1d552, digits: 0x1d7d8 },
  "sans-serif": { upper: 0x1d5a0, lower: 0x1d5ba, digits: 0x1d7e2 },
  "bold-sans-serif": { upper: 0x1d5d4, lower: 0x1d5ee, digits: 0x1d7ec },
  "sans-serif-italic": { upper: 0x1d608, lower: 0x1d622, digits: 0x1d7e2 },
  "sans-serif-bold-italic": { upper: 0x1d63c, lower: 0x1d656, digits: 0x1d7ec },
  "bold-fraktur": { upper: 0x1d56c, lower: 0x1d586 },
  "bold-script": { upper: 0x1d4d0, lower: 0x1d4ea },
  monospace: { upper: 0x1d670, lower: 0x1d68a, digits: 0x1d7f6 },
};

/** Those that Unicode had before the block, and left out there. */
const ELSEWHERE: Record<string, Record<string, string>> = {
  italic: { h: "ℎ" },
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" },
  "double-struck": { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
};

/** The text in an alphabet; characters that it has not stay as they are. */
export function inAlphabet(text: string, variant: string): string {
  const alphabet = ALPHABETS[variant];
  if (alphabet === undefined) return text;
  return Array.from(text, (letter) => {
    const own = ELSEWHERE[variant]?.[letter];
    if (own !== undefined) return own;
    const code = letter.codePointAt(0) ?? 0;
    const from = (first: number, start: number | undefined) =>
      start === undefined ? letter : String.fromCodePoint(start + code - first);
    if (code >= 0x41 && code <= 0x5a) return from(0x41, alphabet.upper);
    if (code >= 0x61 && code <= 0x7a) return from(0x61, alphabet.lower);
    if (code >= 0x30 && code <= 0x39) return from(0x30, alphabet.digits);
    if (code >= 0x391 && code <= 0x3a9) return from(0x391, alphabet.greek?.upper);
    if (code >= 0x3b1 && code <= 0x3c9) return from(0x3b1, alphabet.greek?.lower);
    return letter;
  }).join("");
}
