"""The CSS of `report.html`: readable on a phone, in light and dark mode, in one file."""

STYLE = """
:root{--ink:#1c2126;--quiet:#5c6670;--paper:#fbfbfa;--card:#fff;--line:#e2e4e6;--good:#1f7a4d;
--warn:#9a5b00;
--bad:#b3261e;--soft-good:#e5f4ec;--soft-warn:#fdf0dc;--soft-bad:#fbe6e4;--bar:#7aa7d9;
color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--quiet:#9aa4ae;--paper:#14171a;
--card:#1c2024;--line:#30363c;
--good:#6fd3a0;--warn:#f0b65c;--bad:#ff8f86;--soft-good:#16301f;--soft-warn:#3a2a0f;
--soft-bad:#421c19;--bar:#4d7fb8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.4rem 0 .3rem}
h3{font-size:1rem;margin:1.3rem 0 .2rem;font-weight:600}
p{margin:.3rem 0}
.quiet{color:var(--quiet);max-width:46rem;font-size:.94rem}
.consent{display:inline-block;padding:.25rem .7rem;border-radius:.5rem;font-size:.94rem;
overflow-wrap:anywhere}
.known{background:var(--soft-good);color:var(--good)}
.unknown{background:var(--soft-warn);color:var(--warn)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;
margin-top:1rem}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.6rem .8rem}
.facts b{display:block;font-size:1.25rem}
.facts span{color:var(--quiet);font-size:.85rem}
.findings{list-style:none;padding:0;margin:.6rem 0;display:grid;gap:.4rem}
.findings li{display:grid;grid-template-columns:5.6rem 1fr;gap:.8rem;background:var(--card);
border:1px solid var(--line);border-radius:.6rem;padding:.5rem .8rem;font-size:.95rem}
.findings i{font-style:normal;font-size:.8rem;font-weight:600;text-align:center;border-radius:.4rem;
padding:.1rem 0;
align-self:start;margin-top:.12rem}
.findings b::after{content:":"}
.findings p{color:var(--quiet)}
.findings .at{color:var(--quiet);font-variant-numeric:tabular-nums}
details{margin-top:.7rem}
summary{cursor:pointer;color:var(--good);font-weight:600;font-size:.95rem}
.calm{list-style:none;padding:0;margin:.5rem 0;columns:22rem 2;column-gap:2rem;font-size:.92rem;
color:var(--quiet)}
.calm li{break-inside:avoid;padding:.12rem 0}
.calm b{color:var(--ink);font-weight:600}
.calm b::after{content:":"}
.warning i{background:var(--soft-warn);color:var(--warn)}
.rejection i{background:var(--soft-bad);color:var(--bad)}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:.5rem;
margin-top:.6rem}
.worst{grid-template-columns:repeat(auto-fill,minmax(168px,1fr))}
figure{margin:0}
img{display:block;width:100%;height:auto;border-radius:.35rem;background:var(--line)}
figcaption{font-size:.8rem;font-variant-numeric:tabular-nums;padding:.15rem .1rem .4rem}
figcaption span{color:var(--quiet)}
.plot{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.4rem}
.plot svg{display:block;width:100%;min-width:620px;height:auto}
table{border-collapse:collapse;width:100%;margin-top:.5rem;font-size:.95rem}
td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}
td:nth-child(3){width:70%}
td span{display:block;height:.6rem;min-width:2px;border-radius:.3rem;background:var(--bar)}
@media(max-width:520px){main{padding:1rem .8rem 3rem}.findings li{grid-template-columns:1fr;
gap:.3rem}
.findings i{justify-self:start;padding:.1rem .6rem}.sheet{grid-template-columns:repeat(3,1fr)}
.facts{grid-template-columns:1fr 1fr}
.worst{grid-template-columns:repeat(2,1fr)}}
"""
