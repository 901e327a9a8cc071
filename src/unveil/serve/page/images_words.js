// Words of the Images tab.

import { learn } from "./words.js";

learn({
  en: {
    networks: "LoRA and learned words", lora: "LoRA file", lora_weight: "Weight", lora_add: "Add to the prompt",
    word: "Learned word", word_add: "Add the word", image_file: "Choose an image to change", mask_file: "Choose a mask file",
    brush_help: "Paint over the part to make anew. With the keyboard: arrows move the brush, the space bar paints.",
    paint_first: "Paint over the part to make anew, or choose a mask file, first.",
    plot: "X/Y/Z plot", plot_help: "One picture for each value. Numbers as 1, 2, 4-8, 10-30 (+5) or 0-1 [3]; of a text in the prompt, the first is replaced by each.",
    axis: "{axis} axis", values: "Values of {axis}", no_axis: "nothing", axis_seed: "Seed", axis_steps: "Steps", axis_scale: "Guidance scale",
    axis_solver: "Solver", axis_class: "Class", axis_prompt: "Text in the prompt", axis_strength: "Strength",
    axis_rescale: "Rescaled guidance", axis_variation: "Amount of variation", axis_variation_seed: "Seed of the variation",
    empty: "Describe a picture, and watch it appear.", examples: "Try:",
    empty_class: "Choose a class, and watch pictures appear.",
    empty_drop: "Or drop a PNG of this page here, and all its settings return; any other image becomes the start of a new one.",
    download_all: "Download all", clear: "Clear", details: "Settings", cells: "Single pictures", plot_alt: "Plot: {axes}",
    started: "start image loaded", cells_done: "picture {cells} of {of}",
  },
  zh: {
    networks: "LoRA 与学到的词", lora: "LoRA 文件", lora_weight: "权重", lora_add: "加入提示词",
    word: "学到的词", word_add: "加入这个词", image_file: "选择要修改的图像", mask_file: "选择蒙版文件",
    brush_help: "涂抹要重绘的部分。键盘：方向键移动画笔，空格键涂抹。",
    paint_first: "请先涂抹要重绘的部分，或选择蒙版文件。",
    plot: "X/Y/Z 对比图", plot_help: "每个取值一张图。数字可写 1, 2, 4-8、10-30 (+5) 或 0-1 [3]；提示词中的文字：第一项依次被替换为每一项。",
    axis: "{axis} 轴", values: "{axis} 的取值", no_axis: "无", axis_seed: "随机种子", axis_steps: "步数", axis_scale: "引导强度",
    axis_solver: "采样器", axis_class: "类别", axis_prompt: "提示词中的文字", axis_strength: "强度",
    axis_rescale: "引导重缩放", axis_variation: "变体程度", axis_variation_seed: "变体种子",
    empty: "描述一张图，看着它出现。", examples: "试试：",
    empty_class: "选择一个类别，看着图像出现。",
    empty_drop: "也可以把本页生成的 PNG 拖到这里，全部设置就会恢复；其他图像会成为新图的起点。",
    download_all: "全部下载", clear: "清空", details: "设置", cells: "单张图像", plot_alt: "对比图：{axes}",
    started: "已载入起始图像", cells_done: "第 {cells} 张，共 {of} 张",
  },
});
