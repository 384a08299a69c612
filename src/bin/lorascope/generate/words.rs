//! The people and things that the problems are about.

use super::draw::Draw;

const ZH_NAMES: [&str; 32] = [
    "小明", "小红", "小华", "小丽", "小刚", "小芳", "小军", "小强", "小美", "小林", "小雨", "小东", "李雷",
    "韩梅", "王芳", "张伟", "刘洋", "陈静", "杨帆", "赵敏", "周涛", "吴迪", "郑爽", "孙悦", "马超", "朱莉",
    "胡军", "林峰", "何洁", "高远", "罗兰", "梁辰",
];

/// A thing and its measure word.
const ZH_THINGS: [(&str, &str); 24] = [
    ("苹果", "个"),
    ("橘子", "个"),
    ("梨", "个"),
    ("桃子", "个"),
    ("鸡蛋", "个"),
    ("气球", "个"),
    ("面包", "个"),
    ("铅笔", "支"),
    ("钢笔", "支"),
    ("彩笔", "支"),
    ("蜡烛", "支"),
    ("本子", "本"),
    ("故事书", "本"),
    ("漫画书", "本"),
    ("字典", "本"),
    ("贴纸", "张"),
    ("邮票", "张"),
    ("卡片", "张"),
    ("糖果", "颗"),
    ("玻璃球", "颗"),
    ("饼干", "块"),
    ("橡皮", "块"),
    ("积木", "块"),
    ("毛巾", "条"),
];

const ZH_WORKERS: [&str; 8] =
    ["一名工人", "一位师傅", "一位裁缝", "一名木匠", "一台机器", "一个小组", "一个车间", "一名志愿者"];
const ZH_VEHICLES: [&str; 8] = ["汽车", "卡车", "客车", "火车", "摩托车", "轿车", "货车", "大巴"];
const ZH_PLACES: [&str; 10] =
    ["学校", "工厂", "果园", "图书馆", "农场", "超市", "公园", "体育馆", "书店", "食堂"];

const EN_NAMES: [&str; 28] = [
    "Tom", "Anna", "Ben", "Lucy", "Sam", "Mia", "Jack", "Emma", "Leo", "Nina", "Paul", "Rosa", "Omar",
    "Kate", "Ivan", "Lily", "Max", "Zoe", "Carl", "Ella", "Hugo", "Ruth", "Noah", "Vera", "Dan", "Iris",
    "Adam", "June",
];

const EN_THINGS: [&str; 22] = [
    "apples",
    "oranges",
    "pencils",
    "books",
    "stickers",
    "marbles",
    "cookies",
    "balloons",
    "cards",
    "stamps",
    "eggs",
    "shells",
    "candles",
    "notebooks",
    "flowers",
    "muffins",
    "coins",
    "beads",
    "buttons",
    "peaches",
    "tickets",
    "crayons",
];

impl Draw {
    pub fn zh_name(&mut self) -> &'static str {
        self.pick(&ZH_NAMES)
    }

    /// Two people who are not the same.
    pub fn zh_names(&mut self) -> (&'static str, &'static str) {
        two(self, &ZH_NAMES)
    }

    pub fn zh_thing(&mut self) -> (&'static str, &'static str) {
        self.pick(&ZH_THINGS)
    }

    pub fn zh_things(&mut self) -> ((&'static str, &'static str), (&'static str, &'static str)) {
        two(self, &ZH_THINGS)
    }

    pub fn zh_worker(&mut self) -> &'static str {
        self.pick(&ZH_WORKERS)
    }

    pub fn zh_vehicle(&mut self) -> &'static str {
        self.pick(&ZH_VEHICLES)
    }

    pub fn zh_place(&mut self) -> &'static str {
        self.pick(&ZH_PLACES)
    }

    pub fn en_name(&mut self) -> &'static str {
        self.pick(&EN_NAMES)
    }

    pub fn en_names(&mut self) -> (&'static str, &'static str) {
        two(self, &EN_NAMES)
    }

    pub fn en_thing(&mut self) -> &'static str {
        self.pick(&EN_THINGS)
    }

    pub fn en_things(&mut self) -> (&'static str, &'static str) {
        two(self, &EN_THINGS)
    }
}

fn two<T: Copy>(draw: &mut Draw, items: &[T]) -> (T, T) {
    let n = items.len() as u64;
    let first = draw.next() % n;
    let second = (first + 1 + draw.next() % (n - 1)) % n;
    (items[first as usize], items[second as usize])
}
