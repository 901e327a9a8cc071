// The words of the page in English and Chinese.

const WORDS = {
  en: {
    skip: "Skip to the contents", applications: "Applications", tab_images: "Images", tab_plan: "Plan", tab_policy: "Policy",
    tab_text: "Text", tab_train: "Train", settings: "Settings", results: "Results", gallery: "Gallery",
    model: "Model", prompt: "Prompt (one per line)", negative: "Negative prompt", class: "Class", every: "all in turn",
    none: "no class", n: "Number of images", seed: "Seed", random: "random", steps: "Steps", scale: "Guidance scale",
    usual: "the model's usual", solver: "Solver", width: "Width", height: "Height",
    larger: "Larger: a second pass", hires: "Enlarge by", hires_steps: "Steps of the second pass",
    hires_strength: "Strength of the second pass", hires_upscaler: "Enlarged by",
    variations: "Variations of a seed", variation: "Amount, 0 to 1", variation_seed: "Seed of the variation",
    from_image: "From an image", image_file: "Image to change", task: "What to do", img2img: "change all of it",
    inpaint: "paint a part anew", strength: "Strength, 0 to 1", brush: "Brush", erase: "Clear the mask",
    brush_help: "Paint over the part to make anew, or choose a mask file, bright there.", mask_file: "Mask file",
    canvas: "The image with your mask", forget: "Remove the image", others: "Also from the PNG:",
    others_clear: "Leave these out", go: "Make images", stop: "Stop", png_info: "Read settings from a PNG",
    progress: "Progress", preview: "What is predicted now", queued: "waiting", running: "step {step} of {steps}",
    loading: "loading the model", done: "done: {images} images", cancelled: "stopped", download: "Download", again: "Use settings",
    change: "Change", paint: "Paint", read: "settings read", token: "Token of this server",
  },
  zh: {
    skip: "跳到内容", applications: "应用", tab_images: "图像", tab_plan: "规划", tab_policy: "策略", tab_text: "文本",
    tab_train: "训练", settings: "设置", results: "结果", gallery: "图库",
    model: "模型", prompt: "提示词（每行一个）", negative: "反向提示词", class: "类别", every: "依次全部",
    none: "无类别", n: "图像数量", seed: "随机种子", random: "随机", steps: "步数", scale: "引导强度",
    usual: "模型默认", solver: "采样器", width: "宽度", height: "高度",
    larger: "放大：第二遍采样", hires: "放大倍数", hires_steps: "第二遍步数",
    hires_strength: "第二遍强度", hires_upscaler: "放大方法",
    variations: "种子的变体", variation: "程度，0 到 1", variation_seed: "变体种子",
    from_image: "从图像开始", image_file: "要修改的图像", task: "操作", img2img: "修改整张图",
    inpaint: "重绘一部分", strength: "强度，0 到 1", brush: "画笔", erase: "清除蒙版",
    brush_help: "涂抹要重绘的部分，或选择蒙版文件（亮处重绘）。", mask_file: "蒙版文件",
    canvas: "带蒙版的图像", forget: "移除图像", others: "PNG 中的其他设置：",
    others_clear: "不使用这些", go: "生成图像", stop: "停止", png_info: "从 PNG 读取设置",
    progress: "进度", preview: "当前预测", queued: "等待中", running: "第 {step} 步，共 {steps} 步",
    loading: "正在加载模型", done: "完成：{images} 张图像", cancelled: "已停止", download: "下载", again: "使用设置",
    change: "修改", paint: "重绘", read: "已读取设置", token: "此服务器的令牌",
  },
};

let language = "en";

export const t = (key, values = {}) =>
  WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));

export const has = (key) => key in WORDS[language];

// The words of a tab, by language.
export function learn(words) {
  for (const one of Object.keys(WORDS)) Object.assign(WORDS[one], words[one]);
}

// Put the words of a language, by default the present one, into the page.
export function speak(wanted = language) {
  language = wanted in WORDS ? wanted : "en";
  document.documentElement.lang = language;
  for (const it of document.querySelectorAll("[data-t]")) it.textContent = t(it.dataset.t);
  for (const it of document.querySelectorAll("[data-label]")) it.setAttribute("aria-label", t(it.dataset.label));
  for (const it of document.querySelectorAll("[data-placeholder]")) it.placeholder = t(it.dataset.placeholder);
  for (const it of document.querySelectorAll("[data-alt]")) it.alt = t(it.dataset.alt);
  const other = document.getElementById("language");
  [other.textContent, other.lang] = language === "en" ? ["中文", "zh"] : ["English", "en"];
  try { localStorage.setItem("language", language); } catch { /* private windows keep nothing */ }
}

export function usualLanguage() {
  let kept = null;
  try { kept = localStorage.getItem("language"); } catch { /* as above */ }
  return kept ?? (navigator.language.startsWith("zh") ? "zh" : "en");
}

export const otherLanguage = () => (language === "en" ? "zh" : "en");
