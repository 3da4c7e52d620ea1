// Typeset formulas in node and print those that MathJax refuses, as JSON.
// Input (stdin): {"mathjax": folder, "macros": {...}, "formulas": [{"tex": ..., "display": ...}]}
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const require = createRequire(import.meta.url);
const MathJax = await require(`${job.mathjax}/node-main.js`).init({
  loader: { paths: { mathjax: job.mathjax }, load: ['input/tex', 'adaptors/liteDOM'], require },
  // Without `noundefined` an undefined macro is an error instead of red text.
  tex: { macros: job.macros, packages: { '[-]': ['noundefined'] } },
});
const refused = [];
for (const formula of job.formulas) {
  MathJax.texReset();
  try {
    const mathml = await MathJax.tex2mmlPromise(formula.tex, { display: formula.display });
    const message = mathml.match(/<merror[^>]*data-mjx-error="([^"]*)"/);
    if (message || mathml.includes('<merror')) {
      refused.push({ ...formula, message: message ? message[1] : 'merror' });
    }
  } catch (error) {
    refused.push({ ...formula, message: String(error.message || error) });
  }
}
console.log(JSON.stringify({ typeset: job.formulas.length, refused }));
