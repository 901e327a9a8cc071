// The page: its tabs, and the language.
//
// A tab is NAME.html, put into its panel when it is first shown, and NAME.js, imported after it: `begin()` is called
// once, `spoken()`, if there is one, after the language has changed, and `shown()`, if there is one, each time.

import { guarded } from "./errors.js";
import { otherLanguage, speak, t, usualLanguage } from "./words.js";

const TABS = ["images", "plan", "policy", "text", "train"];
const $ = (id) => document.getElementById(id);
const modules = {};

const tabOf = (name) => $(`tab-${name}`);
const panelOf = (name) => $(`panel-${name}`);
const asked = () => (TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : TABS[0]);

const show = guarded(async (name) => {
  for (const one of TABS) {
    const chosen = one === name;
    tabOf(one).setAttribute("aria-selected", String(chosen));
    tabOf(one).tabIndex = chosen ? 0 : -1;
    panelOf(one).hidden = !chosen;
  }
  if (!modules[name]) {
    modules[name] = (async () => {
      panelOf(name).innerHTML = await (await fetch(`/page/${name}.html`)).text();
      const module = await import(`./${name}.js`);
      speak();
      await module.begin();
      panelOf(name).setAttribute("aria-busy", "false");
      return module;
    })();
    modules[name].catch(() => delete modules[name]);
  }
  (await modules[name]).shown?.();
});

function build() {
  for (const name of TABS) {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", id: `tab-${name}`, tabIndex: -1 });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `panel-${name}`);
    tab.dataset.t = `tab_${name}`;
    tab.addEventListener("click", () => {
      history.replaceState(null, "", `#${name}`);
      show(name);
    });
    const panel = document.createElement("div");
    Object.assign(panel, { id: `panel-${name}`, className: "panel", hidden: true });
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    panel.setAttribute("aria-busy", "true");
    $("tabs").append(tab);
    $("panels").append(panel);
  }
}

// Left and right go from tab to tab, as in the pattern of the ARIA guide.
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = TABS.findIndex((name) => tabOf(name) === document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = tabOf(TABS[(at + step + TABS.length) % TABS.length]);
  next.focus();
  next.click();
});
$("language").addEventListener("click", guarded(async () => {
  speak(otherLanguage());
  for (const module of Object.values(modules)) (await module).spoken?.();
}));
addEventListener("hashchange", () => show(asked()));

// A token is behind # in the address that the server prints.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
build();
speak(usualLanguage());
show(asked());
