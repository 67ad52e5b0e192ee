// What commands of LaTeX are called in Unicode.

const words = (text) => new Map(text.trim().split(/\s+/).map((pair) => [pair.slice(0, -1), pair.at(-1)]));

/** Letters, and what stands like one. */
export const LETTERS = words(`
  alphaα betaβ gammaγ deltaδ epsilonϵ varepsilonε zetaζ etaη thetaθ varthetaϑ iotaι kappaκ lambdaλ muμ nuν xiξ piπ varpiϖ
  rhoρ varrhoϱ sigmaσ varsigmaς tauτ upsilonυ phiϕ varphiφ chiχ psiψ omegaω GammaΓ DeltaΔ ThetaΘ LambdaΛ XiΞ PiΠ SigmaΣ
  UpsilonΥ PhiΦ PsiΨ OmegaΩ infty∞ partial∂ nabla∇ ellℓ hbarℏ imathı jmathȷ Reℜ Imℑ alephℵ emptyset∅ varnothing∅ angle∠
  triangle△ square□ blacksquare■ degree° dots… ldots… cdots⋯ vdots⋮ ddots⋱ dotsc… dotsb⋯ top⊤ bot⊥ checkmark✓ $$ %% && ## __`);

/** Relations, operations and brackets. */
export const OPERATORS = words(`
  times× cdot⋅ div÷ pm± mp∓ ast∗ star⋆ circ∘ bullet∙ oplus⊕ ominus⊖ otimes⊗ odot⊙ cap∩ cup∪ setminus∖ wedge∧ vee∨ land∧ lor∨
  neg¬ lnot¬ leq≤ le≤ geq≥ ge≥ neq≠ ne≠ approx≈ equiv≡ cong≅ sim∼ simeq≃ propto∝ ll≪ gg≫ prec≺ succ≻ in∈ notin∉ ni∋ subset⊂
  supset⊃ subseteq⊆ supseteq⊇ subsetneq⊊ forall∀ exists∃ nexists∄ to→ rightarrow→ leftarrow← leftrightarrow↔ Rightarrow⇒
  Leftarrow⇐ Leftrightarrow⇔ implies⟹ impliedby⟸ iff⟺ mapsto↦ longrightarrow⟶ longleftarrow⟵ Longrightarrow⟹ uparrow↑
  downarrow↓ rightleftharpoons⇌ hookrightarrow↪ mid∣ nmid∤ parallel∥ perp⊥ therefore∴ because∵ colon: vert| Vert‖ lvert|
  rvert| lVert‖ rVert‖ langle⟨ rangle⟩ lceil⌈ rceil⌉ lfloor⌊ rfloor⌋ lbrace{ rbrace} lbrack[ rbrack] backslash\\ prime′
  dagger† models⊨ vdash⊢ {{ }} |‖`);

/** Operators whose limits stand below and above them, in a line of their own. */
export const LARGE = words("sum∑ prod∏ coprod∐ bigcup⋃ bigcap⋂ bigoplus⨁ bigotimes⨂ bigvee⋁ bigwedge⋀");
export const INTEGRALS = words("int∫ iint∬ iiint∭ oint∮");

/** Functions, by their names; those of the second list have limits as LARGE has. */
export const FUNCTIONS = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth log ln lg exp deg dim ker hom arg".split(" "),
);
export const LIMITS = new Set("lim max min sup inf limsup liminf det gcd Pr argmax argmin".split(" "));

/** What stands above or below; those that end in a stretched sign are as wide as what they belong to. */
export const ABOVE = words("hat^ widehat^ bar¯ overline‾ vec→ overrightarrow→ dot˙ ddot¨ tilde~ widetilde~ checkˇ overbrace⏞");
export const BELOW = words("underline_ underbrace⏟");

/** Blanks, in em. */
export const SPACES = new Map([
  [",", 0.17],
  [":", 0.22],
  [">", 0.22],
  [";", 0.28],
  ["!", -0.17],
  [" ", 0.25],
  ["quad", 1],
  ["qquad", 2],
]);

/** A letter or digit in another alphabet: "mathbb" or "mathbf"; as it is where that has none. */
export function inAlphabet(name, sign) {
  const code = sign.codePointAt(0);
  const [capitals, small, digits] = name === "mathbb" ? [0x1d538, 0x1d552, 0x1d7d8] : [0x1d400, 0x1d41a, 0x1d7ce];
  if (name === "mathbb" && "CHNPQRZ".includes(sign)) return "ℂℍℕℙℚℝℤ"["CHNPQRZ".indexOf(sign)];
  if (/[A-Z]/.test(sign)) return String.fromCodePoint(capitals + code - 65);
  if (/[a-z]/.test(sign)) return String.fromCodePoint(small + code - 97);
  if (/[0-9]/.test(sign)) return String.fromCodePoint(digits + code - 48);
  return sign;
}
