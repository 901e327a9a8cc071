// The words of the Text tab.

import { learn } from "./words.js";

learn({
  en: {
    text_task: "What to write", text_continue: "Continue a text", text_infill: "Fill gaps", text_chat: "Chat",
    text_prompt: "Beginning of the text", text_pattern: "Text with gaps, such as [*8] of 8 tokens",
    text_gap: "Tokens of a gap", text_insert: "Insert a gap at the cursor", text_message: "Message",
    text_untuned: "This model was not trained to chat: it goes on in its own way.",
    text_length: "Number of new tokens", text_order: "Order", text_temperature: "Temperature",
    text_block: "Tokens per block (0: one block)", text_go: "Write", text_new: "New chat", text_tokens: "Tokens",
    text_given: "given", text_first: "first step", text_last: "last step", text_masked: "masked",
    text_play: "Play again", text_fill: "Fill the masked tokens", text_copy: "Copy the text", text_copied: "copied",
    text_help: "Click a token, or press Enter on it, to mask it; arrow keys go from token to token.",
    text_end: "end of the text", text_newline: "line break", text_part: "part of a character",
    text_is_masked: "masked", text_will_mask: "{token}: will be written again",
    text_decided: "{token}: decided in step {step}", text_was_given: "{token}: given",
    text_step: "after step {step} of {steps}", text_done: "{count} tokens in {steps} steps, seed {seed}",
    text_user: "You", text_assistant: "Model", text_none: "This server has no text model.",
    "order_first-hitting": "first-hitting: the model's own process", order_ancestral: "ancestral: the same, in steps",
    order_confidence: "most confident first", order_margin: "clearest margin first", order_entropy: "lowest entropy first",
    order_random: "random", "order_left-to-right": "left to right",
  },
  zh: {
    text_task: "写什么", text_continue: "续写", text_infill: "填空", text_chat: "对话",
    text_prompt: "文本的开头", text_pattern: "带空缺的文本，例如 [*8] 表示 8 个词元",
    text_gap: "空缺的词元数", text_insert: "在光标处插入空缺", text_message: "消息",
    text_untuned: "此模型没有经过对话训练：它只会按自己的方式续写。",
    text_length: "新词元数量", text_order: "顺序", text_temperature: "温度",
    text_block: "每块词元数（0：一整块）", text_go: "开始写", text_new: "新对话", text_tokens: "词元",
    text_given: "给定", text_first: "第一步", text_last: "最后一步", text_masked: "已遮盖",
    text_play: "重新播放", text_fill: "填写遮盖的词元", text_copy: "复制文本", text_copied: "已复制",
    text_help: "点击词元（或在其上按回车）即可遮盖；用方向键在词元间移动。",
    text_end: "文本结束", text_newline: "换行", text_part: "字符的一部分",
    text_is_masked: "已遮盖", text_will_mask: "{token}：将重新书写",
    text_decided: "{token}：在第 {step} 步确定", text_was_given: "{token}：给定",
    text_step: "第 {step} 步之后，共 {steps} 步", text_done: "{count} 个词元，{steps} 步，种子 {seed}",
    text_user: "你", text_assistant: "模型", text_none: "此服务器没有文本模型。",
    "order_first-hitting": "first-hitting：模型自身的过程", order_ancestral: "ancestral：同上，分步进行",
    order_confidence: "最有把握者优先", order_margin: "差距最大者优先", order_entropy: "熵最低者优先",
    order_random: "随机", "order_left-to-right": "从左到右",
  },
});
