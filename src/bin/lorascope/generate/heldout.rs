//! Kinds of problem that training files never hold: what a model is evaluated on.

use super::draft::{ExerciseKind, draft};

/// All of them.
pub(super) const KINDS: [ExerciseKind; 12] = [
    ExerciseKind("zh-chase", |d| {
        let (slow, more, t) = (d.int(8, 14) * 5, d.int(2, 6) * 5, d.int(2, 8));
        let (fast, lead, car) = (slow + more, more * t, d.zh_vehicle());
        draft(
            format!("前车每小时行{slow}千米，后面的{car}每小时行{fast}千米，相距{lead}千米，几小时追上？"),
            [format!("速度差：{fast} - {slow} = {more}"), format!("时间：{lead} ÷ {more} = {t}")],
            format!("追上需要{t}小时"),
            t,
        )
    }),
    ExerciseKind("zh-surplus", |d| {
        let ((thing, m), few, step, people) = (d.zh_thing(), d.int(3, 7), d.int(1, 3), d.int(4, 15));
        let spare = d.int(1, step * people - 1);
        let (many, lack) = (few + step, step * people - spare);
        draft(
            format!("分{thing}，每人{few}{m}多{spare}{m}，每人{many}{m}少{lack}{m}，有多少人？"),
            [
                format!("两次相差：{spare} + {lack} = {}", spare + lack),
                format!("每人相差：{many} - {few} = {step}"),
                format!("人数：{} ÷ {step} = {people}", spare + lack),
            ],
            format!("有{people}人"),
            people,
        )
    }),
    ExerciseKind("zh-joint-work", |d| {
        let (a, b, t) = (d.int(5, 30), d.int(5, 30), d.int(3, 12));
        let all = (a + b) * t;
        draft(
            format!("修一条{all}米的路，甲队每天修{a}米，乙队每天修{b}米，两队合修几天完成？"),
            [format!("每天合修：{a} + {b} = {}", a + b), format!("天数：{all} ÷ {} = {t}", a + b)],
            format!("合修{t}天完成"),
            t,
        )
    }),
    ExerciseKind("zh-phalanx", |d| {
        let (n, who) = (d.int(5, 60), d.pick(&["同学们", "士兵", "少先队员", "运动员", "舞蹈队"]));
        draft(
            format!("{who}排成方阵，每边{n}人，最外层一共有多少人？"),
            [format!("每边少算一人：{n} - 1 = {}", n - 1), format!("四边：{} × 4 = {}", n - 1, 4 * (n - 1))],
            format!("最外层有{}人", 4 * (n - 1)),
            4 * (n - 1),
        )
    }),
    ExerciseKind("zh-saw", |d| {
        let (n, t) = (d.int(3, 15), d.int(2, 9));
        let what = d.pick(&["木头", "钢管", "竹竿"]);
        draft(
            format!("把一根{what}锯成{n}段，每锯一次用{t}分钟，一共用多少分钟？"),
            [format!("次数：{n} - 1 = {}", n - 1), format!("时间：{} × {t} = {}", n - 1, (n - 1) * t)],
            format!("一共用{}分钟", (n - 1) * t),
            (n - 1) * t,
        )
    }),
    ExerciseKind("zh-rows-of-seats", |d| {
        let (first, step, n) = (d.int(8, 20), 2 * d.int(1, 2), d.int(4, 12));
        let last = first + step * (n - 1);
        draft(
            format!("剧场第一排{first}个座位，每排比前一排多{step}个，第{n}排有多少个座位？"),
            [
                format!("增加的次数：{n} - 1 = {}", n - 1),
                format!("增加：{} × {step} = {}", n - 1, step * (n - 1)),
                format!("座位：{first} + {} = {last}", step * (n - 1)),
            ],
            format!("这一排有{last}个座位"),
            last,
        )
    }),
    ExerciseKind("zh-brine", |d| {
        let (r, k) = (d.int(1, 8) * 5, d.int(3, 90));
        let (all, salt) = (k * 20, r * k / 5);
        draft(
            format!("{all}克盐水的浓度是{r}%，里面有水多少克？"),
            [format!("盐：{all} × {r} ÷ 100 = {salt}"), format!("水：{all} - {salt} = {}", all - salt)],
            format!("有水{}克", all - salt),
            all - salt,
        )
    }),
    ExerciseKind("en-catch-up", |d| {
        let ((who, other), slow, more, t) = (d.en_names(), d.int(3, 12), d.int(2, 8), d.int(2, 9));
        let (fast, lead) = (slow + more, more * t);
        draft(
            format!(
                "{other} is {lead} m ahead and walks {slow} m per minute. {who} runs {fast} m per minute. When does {who} catch up?"
            ),
            [
                format!("The gap closes by {fast} - {slow} = {more}"),
                format!("The time is {lead} ÷ {more} = {t}"),
            ],
            format!("{who} catches up after {t} minutes"),
            t,
        )
    }),
    ExerciseKind("en-recipe", |d| {
        let (who, a, n, k) = (d.en_name(), d.int(2, 9), d.int(2, 6), d.int(2, 7));
        draft(
            format!(
                "A recipe for {n} people needs {} eggs. How many eggs does {who} need for {} people?",
                n * a,
                n * k
            ),
            [
                format!("Eggs for one: {} ÷ {n} = {a}", n * a),
                format!("Eggs for all: {a} × {} = {}", n * k, n * k * a),
            ],
            format!("{who} needs {} eggs", n * k * a),
            n * k * a,
        )
    }),
    ExerciseKind("en-consecutive", |d| {
        let mid = d.int(5, 900);
        draft(
            format!("The sum of three consecutive numbers is {}. What is the largest?", 3 * mid),
            [
                format!("The middle one is {} ÷ 3 = {mid}", 3 * mid),
                format!("The next is {mid} + 1 = {}", mid + 1),
            ],
            format!("The largest number is {}", mid + 1),
            mid + 1,
        )
    }),
    ExerciseKind("en-coins", |d| {
        let (who, n, dimes) = (d.en_name(), d.int(6, 30), d.int(2, 25));
        let n = n + dimes;
        let cents = 5 * (n - dimes) + 10 * dimes;
        draft(
            format!("{who} has {n} coins, all nickels and dimes, worth {cents} cents. How many are dimes?"),
            [
                format!("All nickels make {n} × 5 = {}", 5 * n),
                format!("The rest is {cents} - {} = {}", 5 * n, 5 * dimes),
                format!("Dimes: {} ÷ 5 = {dimes}", 5 * dimes),
            ],
            format!("The number of dimes is {dimes}"),
            dimes,
        )
    }),
    ExerciseKind("en-round-table", |d| {
        let (gap, n) = (d.int(2, 15), d.int(5, 90));
        draft(
            format!(
                "Lamps stand {gap} m apart around a round lake with a shore of {} m. How many lamps are there?",
                gap * n
            ),
            [format!("In a circle gaps and lamps are equal: {} ÷ {gap} = {n}", gap * n)],
            format!("The number of lamps is {n}"),
            n,
        )
    }),
];
