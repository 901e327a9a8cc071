// The words of the Policy tab.

import { learn } from "./words.js";

learn({
  en: {
    policy_driver: "Who pushes", policy_person: "you", policy_policy: "the policy",
    policy_to_policy: "Hand over to the policy", policy_to_person: "Take over", policy_restart: "New start",
    policy_delay: "Delay of a decision", policy_steps: "{steps} steps ({seconds} s)", policy_asynchronous: "Meanwhile",
    policy_prefix: "known first actions (prefix)", policy_soft: "guided by the previous chunk (soft)", policy_hard: "first actions put in (hard)",
    policy_naive: "not conditioned (naive)", policy_wait: "stand still (wait)",
    policy_keep_out: "Keep out of a disc", policy_x: "x", policy_y: "y", policy_radius: "Radius",
    policy_disc_help: "Drag the disc. The policy is steered around it; no demonstration was.",
    policy_chunks: "Draw the predicted chunk of actions", policy_record: "Your demonstrations", policy_rec: "Record", policy_rec_stop: "Stop recording",
    policy_discard: "Discard the last", policy_save: "Download", policy_count: "Episodes: {episodes}, {seconds} s",
    policy_rec_help: "Your pushes are recorded while you drive.", policy_train: "Train on the file:",
    policy_canvas: "The table with the T and its target", policy_coverage: "Target covered", policy_best: "Best reward", policy_decision: "Last decision",
    policy_ms: "{ms} ms", policy_solved: "Solved: the T covers the target.", policy_drives: "The policy pushes.", policy_you_drive: "You push.",
    policy_help: "Press on the table and drag: the blue disc follows, and pushes the T onto the green target. Arrow keys move it, too.",
    policy_needs: "This tab needs a simulator that is not installed on the server: {command}",
  },
  zh: {
    policy_driver: "由谁推", policy_person: "你", policy_policy: "策略",
    policy_to_policy: "交给策略", policy_to_person: "由我接手", policy_restart: "重新开始",
    policy_delay: "决策延迟", policy_steps: "{steps} 步（{seconds} 秒）", policy_asynchronous: "等待期间",
    policy_prefix: "已知的前几个动作（prefix）", policy_soft: "由上一段动作引导（soft）", policy_hard: "直接替换前几个动作（hard）",
    policy_naive: "无条件（naive）", policy_wait: "原地等待（wait）",
    policy_keep_out: "避开一个圆盘", policy_x: "x", policy_y: "y", policy_radius: "半径",
    policy_disc_help: "可拖动圆盘。策略会被引导绕开它；示范数据中没有它。",
    policy_chunks: "显示预测的动作段", policy_record: "你的示范", policy_rec: "录制", policy_rec_stop: "停止录制",
    policy_discard: "丢弃最后一段", policy_save: "下载", policy_count: "{episodes} 段，{seconds} 秒",
    policy_rec_help: "由你操作时，动作会被录制。", policy_train: "用该文件训练：",
    policy_canvas: "桌面、T 形块和目标", policy_coverage: "目标覆盖率", policy_best: "最佳奖励", policy_decision: "上次决策",
    policy_ms: "{ms} 毫秒", policy_solved: "完成：T 形块已覆盖目标。", policy_drives: "策略正在推。", policy_you_drive: "由你来推。",
    policy_help: "在桌面上按住并拖动：蓝色圆盘会跟随，把 T 形块推到绿色目标上。也可以使用方向键。",
    policy_needs: "此页需要服务器上未安装的模拟器：{command}",
  },
});
