//! The Chinese kinds of problem that training files hold.
//!
//! Each draws its numbers so that the answer comes out whole (or with one decimal), and writes
//! every calculation as `a + b = c`: the tests read them back and calculate again.

use super::draft::{Draft, ExerciseKind, draft, tenths};

/// All of them.
pub(super) const KINDS: [ExerciseKind; 32] = [
    ExerciseKind("zh-sum", |d| {
        let (who, (thing, m)) = (d.zh_name(), d.zh_thing());
        let (a, b) = (d.int(3, 90), d.int(2, 60));
        let got = d.pick(&["又买了", "妈妈又给了", "又得到"]);
        draft(
            format!("{who}有{a}{m}{thing}，{got}{b}{m}，现在一共有多少{m}{thing}？"),
            [format!("把两部分加起来：{a} + {b} = {}", a + b)],
            format!("{who}现在一共有{}{m}{thing}", a + b),
            a + b,
        )
    }),
    ExerciseKind("zh-left", |d| {
        let (who, (thing, m)) = (d.zh_name(), d.zh_thing());
        let b = d.int(2, 40);
        let a = b + d.int(3, 60);
        let gone = d.pick(&["送给同学", "用掉了", "卖出了"]);
        draft(
            format!("{who}有{a}{m}{thing}，{gone}{b}{m}，还剩多少{m}？"),
            [format!("从总数里减去：{a} - {b} = {}", a - b)],
            format!("还剩{}{m}{thing}", a - b),
            a - b,
        )
    }),
    ExerciseKind("zh-cost", |d| {
        let (who, (thing, m)) = (d.zh_name(), d.zh_thing());
        let (n, p) = (d.int(2, 15), d.int(2, 20));
        draft(
            format!("每{m}{thing}{p}元，{who}买了{n}{m}，一共要付多少元？"),
            [format!("单价乘以数量：{p} × {n} = {}", p * n)],
            format!("一共要付{}元", p * n),
            p * n,
        )
    }),
    ExerciseKind("zh-change", |d| {
        let (who, (thing, m)) = (d.zh_name(), d.zh_thing());
        let (n, p) = (d.int(2, 9), d.int(2, 9));
        let paid = (n * p / 50 + 1) * 50;
        draft(
            format!("{who}买了{n}{m}{thing}，每{m}{p}元，付了{paid}元，应找回多少元？"),
            [format!("花费：{n} × {p} = {}", n * p), format!("找回：{paid} - {} = {}", n * p, paid - n * p)],
            format!("应找回{}元", paid - n * p),
            paid - n * p,
        )
    }),
    ExerciseKind("zh-share", |d| {
        let ((thing, m), n, each) = (d.zh_thing(), d.int(3, 12), d.int(3, 20));
        draft(
            format!("把{}{m}{thing}平均分给{n}个小朋友，每人分到几{m}？", n * each),
            [format!("用除法：{} ÷ {n} = {each}", n * each)],
            format!("每人分到{each}{m}{thing}"),
            each,
        )
    }),
    ExerciseKind("zh-distance", |d| {
        let (car, v, t) = (d.zh_vehicle(), d.int(16, 120), d.int(2, 12));
        draft(
            format!("一辆{car}每小时行驶{v}千米，{t}小时能行驶多少千米？"),
            [format!("路程等于速度乘以时间：{v} × {t} = {}", v * t)],
            format!("{t}小时能行驶{}千米", v * t),
            v * t,
        )
    }),
    ExerciseKind("zh-time", |d| {
        let (car, v, t) = (d.zh_vehicle(), d.int(16, 120), d.int(2, 12));
        draft(
            format!("甲乙两地相距{}千米，{car}每小时行{v}千米，几小时能到？", v * t),
            [format!("时间等于路程除以速度：{} ÷ {v} = {t}", v * t)],
            format!("需要{t}小时"),
            t,
        )
    }),
    ExerciseKind("zh-output", |d| {
        let (who, n, t) = (d.zh_worker(), d.int(12, 90), d.int(3, 14));
        draft(
            format!("{who}每天做{n}个零件，{t}天一共做多少个零件？"),
            [format!("每天的数量乘以天数：{n} × {t} = {}", n * t)],
            format!("{t}天一共做{}个零件", n * t),
            n * t,
        )
    }),
    ExerciseKind("zh-pages", |d| {
        let (who, n, t) = (d.zh_name(), d.int(8, 35), d.int(3, 8));
        let all = n * t + d.int(10, 120);
        draft(
            format!("一本书有{all}页，{who}每天看{n}页，看了{t}天，还剩多少页？"),
            [format!("已看：{n} × {t} = {}", n * t), format!("剩下：{all} - {} = {}", n * t, all - n * t)],
            format!("还剩{}页", all - n * t),
            all - n * t,
        )
    }),
    ExerciseKind("zh-more", |d| {
        let ((who, other), (thing, m)) = (d.zh_names(), d.zh_thing());
        let (a, b) = (d.int(5, 60), d.int(2, 30));
        draft(
            format!("{who}有{a}{m}{thing}，{other}比{who}多{b}{m}，两人共有多少{m}？"),
            [format!("{other}有：{a} + {b} = {}", a + b), format!("共有：{a} + {} = {}", a + b, a + a + b)],
            format!("两人共有{}{m}{thing}", a + a + b),
            a + a + b,
        )
    }),
    ExerciseKind("zh-fewer", |d| {
        let ((who, other), (thing, m)) = (d.zh_names(), d.zh_thing());
        let b = d.int(2, 20);
        let a = b + d.int(4, 50);
        draft(
            format!("{who}有{a}{m}{thing}，{other}比{who}少{b}{m}，{other}有多少{m}？"),
            [format!("少用减法：{a} - {b} = {}", a - b)],
            format!("{other}有{}{m}{thing}", a - b),
            a - b,
        )
    }),
    ExerciseKind("zh-times", |d| {
        let ((who, other), (thing, m)) = (d.zh_names(), d.zh_thing());
        let (a, k) = (d.int(3, 30), d.int(2, 8));
        draft(
            format!("{who}有{a}{m}{thing}，{other}的{thing}是{who}的{k}倍，两人共有多少{m}？"),
            [format!("{other}有：{a} × {k} = {}", a * k), format!("共有：{a} + {} = {}", a * k, a + a * k)],
            format!("两人共有{}{m}", a + a * k),
            a + a * k,
        )
    }),
    ExerciseKind("zh-rectangle-area", |d| {
        let (place, w) = (d.pick(&["菜地", "操场", "教室", "草坪", "花园"]), d.int(4, 30));
        let l = w + d.int(2, 30);
        draft(
            format!("一块长方形{place}长{l}米，宽{w}米，面积是多少平方米？"),
            [format!("面积等于长乘以宽：{l} × {w} = {}", l * w)],
            format!("面积是{}平方米", l * w),
            l * w,
        )
    }),
    ExerciseKind("zh-rectangle-perimeter", |d| {
        let (place, w) = (d.pick(&["菜地", "操场", "鱼塘", "草坪", "花园"]), d.int(4, 30));
        let l = w + d.int(2, 30);
        draft(
            format!("给长{l}米、宽{w}米的长方形{place}围一圈篱笆，需要多少米？"),
            [format!("长加宽：{l} + {w} = {}", l + w), format!("周长：{} × 2 = {}", l + w, 2 * (l + w))],
            format!("需要{}米篱笆", 2 * (l + w)),
            2 * (l + w),
        )
    }),
    ExerciseKind("zh-square", |d| {
        let what = d.pick(&["手帕", "桌面", "相框", "花坛", "地砖", "纸板", "菜园", "舞台"]);
        let (a, unit) = (d.int(3, 120), d.pick(&["厘米", "分米", "米"]));
        draft(
            format!("一个正方形{what}的周长是{}{unit}，它的面积是多少平方{unit}？", 4 * a),
            [format!("边长：{} ÷ 4 = {a}", 4 * a), format!("面积：{a} × {a} = {}", a * a)],
            format!("面积是{}平方{unit}", a * a),
            a * a,
        )
    }),
    ExerciseKind("zh-triangle", |d| {
        let (b, h, unit) = (2 * d.int(2, 50), d.int(3, 60), d.pick(&["厘米", "分米", "米"]));
        let what = d.pick(&["", "菜地", "纸板", "铁片"]);
        draft(
            format!("三角形{what}的底是{b}{unit}，高是{h}{unit}，面积是多少平方{unit}？"),
            [format!("底乘高：{b} × {h} = {}", b * h), format!("再除以2：{} ÷ 2 = {}", b * h, b * h / 2)],
            format!("面积是{}平方{unit}", b * h / 2),
            b * h / 2,
        )
    }),
    ExerciseKind("zh-average", |d| {
        let (who, mean) = (d.zh_name(), d.int(75, 95));
        let (x, y) = (d.int(-5, 5), d.int(-5, 5));
        let (a, b, c) = (mean + x, mean + y, mean - x - y);
        let sum = 3 * mean;
        draft(
            format!("{who}的语文{a}分，数学{b}分，英语{c}分，三科平均多少分？"),
            [format!("总分：{a} + {b} + {c} = {sum}"), format!("平均：{sum} ÷ 3 = {mean}")],
            format!("三科平均{mean}分"),
            mean,
        )
    }),
    ExerciseKind("zh-discount", |d| {
        let (p, z) = (d.int(3, 150) * 10, d.int(4, 9));
        let what = d.pick(&["一件外套", "一个书包", "一盏台灯", "一双球鞋", "一个水壶", "一台风扇"]);
        draft(
            format!("{what}原价{p}元，现在打{z}折，现价多少元？"),
            [format!("{z}折就是十分之{z}：{p} × {z} ÷ 10 = {}", p * z / 10)],
            format!("现价{}元", p * z / 10),
            p * z / 10,
        )
    }),
    ExerciseKind("zh-percent", |d| {
        let (place, n, r) = (d.zh_place(), d.int(2, 60) * 20, d.int(2, 18) * 5);
        draft(
            format!("{place}里有{n}人，其中{r}%是儿童，儿童有多少人？"),
            [format!("求一个数的百分之几：{n} × {r} ÷ 100 = {}", n * r / 100)],
            format!("儿童有{}人", n * r / 100),
            n * r / 100,
        )
    }),
    ExerciseKind("zh-fraction", |d| {
        let ((thing, m), b) = (d.zh_thing(), d.int(3, 9));
        let (a, unit) = (d.int(2, b - 1), d.int(3, 15));
        let n = b * unit;
        draft(
            format!("有{n}{m}{thing}，卖出了{a}/{b}，卖出多少{m}？"),
            [format!("一份是：{n} ÷ {b} = {unit}"), format!("{a}份是：{unit} × {a} = {}", unit * a)],
            format!("卖出{}{m}{thing}", unit * a),
            unit * a,
        )
    }),
    ExerciseKind("zh-leftover", |d| {
        let ((thing, m), k, n) = (d.zh_thing(), d.int(4, 12), d.int(3, 15));
        let rest = d.int(1, k - 1);
        let all = k * n + rest;
        draft(
            format!("有{all}{m}{thing}，每{k}{m}装一盒，装满{n}盒后还剩几{m}？"),
            [format!("装走：{k} × {n} = {}", k * n), format!("剩下：{all} - {} = {rest}", k * n)],
            format!("还剩{rest}{m}"),
            rest,
        )
    }),
    ExerciseKind("zh-cage", |d| {
        let (hens, hares) = (d.int(3, 70), d.int(2, 60));
        let open = d.pick(&["鸡兔同笼", "笼子里有鸡和兔", "农场养着鸡和兔", "院里有鸡和兔"]);
        let (heads, feet) = (hens + hares, 2 * hens + 4 * hares);
        draft(
            format!("{open}，共有{heads}个头，{feet}只脚，兔有几只？"),
            [
                format!("假设全是鸡：{heads} × 2 = {}", 2 * heads),
                format!("多出的脚：{feet} - {} = {}", 2 * heads, 2 * hares),
                format!("兔：{} ÷ 2 = {hares}", 2 * hares),
            ],
            format!("兔有{hares}只"),
            hares,
        )
    }),
    ExerciseKind("zh-meeting", |d| {
        let (a, b, t) = (d.int(8, 18) * 5, d.int(8, 18) * 5, d.int(2, 7));
        let car = d.zh_vehicle();
        draft(
            format!("两辆{car}从两地相向而行，每小时分别行{a}和{b}千米，{t}小时相遇，两地相距多少千米？"),
            [format!("速度和：{a} + {b} = {}", a + b), format!("距离：{} × {t} = {}", a + b, (a + b) * t)],
            format!("两地相距{}千米", (a + b) * t),
            (a + b) * t,
        )
    }),
    ExerciseKind("zh-age", |d| {
        let (who, a, k, n) = (d.zh_name(), d.int(5, 12), d.int(3, 5), d.int(2, 12));
        let old = a * k;
        draft(
            format!("{who}今年{a}岁，爸爸的年龄是{who}的{k}倍，{n}年后爸爸多少岁？"),
            [format!("爸爸今年：{a} × {k} = {old}"), format!("{n}年后：{old} + {n} = {}", old + n)],
            format!("{n}年后爸爸{}岁", old + n),
            old + n,
        )
    }),
    ExerciseKind("zh-interest", |d| {
        let (who, p, r, t) = (d.zh_name(), d.int(1, 50) * 100, d.int(2, 5), d.int(1, 5));
        draft(
            format!("{who}存入银行{p}元，年利率{r}%，存{t}年，利息多少元？"),
            [
                format!("一年的利息：{p} × {r} ÷ 100 = {}", p * r / 100),
                format!("{t}年：{} × {t} = {}", p * r / 100, p * r * t / 100),
            ],
            format!("利息是{}元", p * r * t / 100),
            p * r * t / 100,
        )
    }),
    ExerciseKind("zh-volume", |d| {
        let (a, b, c) = (d.int(3, 30), d.int(2, 20), d.int(2, 15));
        let what = d.pick(&["水箱", "纸盒", "鱼缸", "木箱"]);
        draft(
            format!("一个长方体{what}长{a}分米、宽{b}分米、高{c}分米，体积是多少立方分米？"),
            [format!("体积等于长宽高的乘积：{a} × {b} × {c} = {}", a * b * c)],
            format!("体积是{}立方分米", a * b * c),
            a * b * c,
        )
    }),
    ExerciseKind("zh-trees", |d| {
        let (gap, n) = (d.int(2, 12), d.int(8, 200));
        let road = d.pick(&["小路", "马路", "公路", "河堤", "大街"]);
        let long = gap * n;
        draft(
            format!("在{long}米长的{road}一边种树，每隔{gap}米种一棵，两端都种，共种几棵？"),
            [format!("间隔数：{long} ÷ {gap} = {n}"), format!("棵数：{n} + 1 = {}", n + 1)],
            format!("共种{}棵", n + 1),
            n + 1,
        )
    }),
    ExerciseKind("zh-two-goods", |d| {
        let (who, ((x, mx), (y, my))) = (d.zh_name(), d.zh_things());
        let (a, p, b, q) = (d.int(2, 8), d.int(2, 12), d.int(2, 8), d.int(2, 12));
        draft(
            format!("{who}买了{a}{mx}{x}，每{mx}{p}元；{b}{my}{y}，每{my}{q}元，共花多少元？"),
            [
                format!("{x}：{a} × {p} = {}", a * p),
                format!("{y}：{b} × {q} = {}", b * q),
                format!("共：{} + {} = {}", a * p, b * q, a * p + b * q),
            ],
            format!("共花{}元", a * p + b * q),
            a * p + b * q,
        )
    }),
    ExerciseKind("zh-unit-price", |d| {
        let ((thing, m), n, p, k) = (d.zh_thing(), d.int(2, 9), d.int(2, 15), d.int(3, 12));
        draft(
            format!("买{n}{m}{thing}要{}元，照这样买{k}{m}要多少元？", n * p),
            [format!("单价：{} ÷ {n} = {p}", n * p), format!("总价：{p} × {k} = {}", p * k)],
            format!("买{k}{m}要{}元", p * k),
            p * k,
        )
    }),
    ExerciseKind("zh-decimal", |d| {
        let (fruit, p, n) =
            (d.pick(&["苹果", "香蕉", "葡萄", "西瓜", "草莓", "大米"]), d.int(11, 99), d.int(2, 9));
        let (price, cost) = (tenths(p), tenths(p * n));
        Draft {
            value: cost.clone(),
            ..draft(
                format!("{fruit}每千克{price}元，买{n}千克需要多少元？"),
                [format!("单价乘以重量：{price} × {n} = {cost}")],
                format!("需要{cost}元"),
                0,
            )
        }
    }),
    ExerciseKind("zh-tank", |d| {
        let (rate, t) = (d.int(3, 90), d.int(4, 40));
        let what = d.pick(&["水池", "水箱", "游泳池", "水塔"]);
        draft(
            format!("一个{what}能装水{}立方米，每小时注水{rate}立方米，几小时注满？", rate * t),
            [format!("容积除以每小时的水量：{} ÷ {rate} = {t}", rate * t)],
            format!("需要{t}小时注满"),
            t,
        )
    }),
    ExerciseKind("zh-ratio", |d| {
        let (a, unit) = (d.int(1, 5), d.int(4, 30));
        let b = a + d.int(1, 4);
        let all = (a + b) * unit;
        let ((who, other), (thing, m)) = (d.zh_names(), d.zh_thing());
        draft(
            format!("{who}和{other}按{a}:{b}分{all}{m}{thing}，{other}分到几{m}？"),
            [
                format!("总份数：{a} + {b} = {}", a + b),
                format!("每份：{all} ÷ {} = {unit}", a + b),
                format!("{other}：{unit} × {b} = {}", unit * b),
            ],
            format!("{other}分到{}{m}", unit * b),
            unit * b,
        )
    }),
];
