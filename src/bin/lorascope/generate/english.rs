//! The English kinds of problem that training files hold.

use super::draft::{ExerciseKind, draft};

/// All of them.
pub(super) const KINDS: [ExerciseKind; 16] = [
    ExerciseKind("en-sum", |d| {
        let (who, thing, a, b) = (d.en_name(), d.en_thing(), d.int(3, 90), d.int(2, 60));
        let got = d.pick(&["buys", "finds", "is given"]);
        draft(
            format!("{who} has {a} {thing} and {got} {b} more. How many {thing} does {who} have now?"),
            [format!("Add the two amounts: {a} + {b} = {}", a + b)],
            format!("{who} has {} {thing} now", a + b),
            a + b,
        )
    }),
    ExerciseKind("en-left", |d| {
        let (who, thing, b) = (d.en_name(), d.en_thing(), d.int(2, 40));
        let a = b + d.int(3, 60);
        let gone = d.pick(&["gives away", "uses", "sells", "loses"]);
        draft(
            format!("{who} has {a} {thing} and {gone} {b} of them. How many {thing} are left?"),
            [format!("Subtract: {a} - {b} = {}", a - b)],
            format!("{who} has {} {thing} left", a - b),
            a - b,
        )
    }),
    ExerciseKind("en-cost", |d| {
        let (who, thing, n, p) = (d.en_name(), d.en_thing(), d.int(3, 15), d.int(2, 20));
        draft(
            format!("{who} buys {n} {thing} at {p} dollars each. How much does {who} pay?"),
            [format!("Price times number: {p} × {n} = {}", p * n)],
            format!("{who} pays {} dollars", p * n),
            p * n,
        )
    }),
    ExerciseKind("en-change", |d| {
        let (who, thing, n, p) = (d.en_name(), d.en_thing(), d.int(2, 9), d.int(2, 9));
        let paid = (n * p / 50 + 1) * 50;
        draft(
            format!(
                "{who} buys {n} {thing} for {p} dollars each and pays with {paid} dollars. What is the change?"
            ),
            [
                format!("The cost is {n} × {p} = {}", n * p),
                format!("The change is {paid} - {} = {}", n * p, paid - n * p),
            ],
            format!("The change is {} dollars", paid - n * p),
            paid - n * p,
        )
    }),
    ExerciseKind("en-share", |d| {
        let (who, thing, n, each) = (d.en_name(), d.en_thing(), d.int(3, 12), d.int(3, 20));
        draft(
            format!("{who} shares {} {thing} equally among {n} friends. How many does each get?", n * each),
            [format!("Divide: {} ÷ {n} = {each}", n * each)],
            format!("Each friend gets {each} {thing}"),
            each,
        )
    }),
    ExerciseKind("en-distance", |d| {
        let (what, v, t) = (d.pick(&["train", "car", "bus", "truck", "boat"]), d.int(15, 110), d.int(2, 12));
        draft(
            format!("A {what} travels at {v} km per hour for {t} hours. How far does it go?"),
            [format!("Distance is speed times time: {v} × {t} = {}", v * t)],
            format!("The {what} goes {} km", v * t),
            v * t,
        )
    }),
    ExerciseKind("en-wage", |d| {
        let (who, h, days, w) = (d.en_name(), d.int(3, 8), d.int(2, 6), d.int(9, 25));
        draft(
            format!(
                "{who} works {h} hours a day for {days} days at {w} dollars an hour. How much is earned?"
            ),
            [
                format!("The hours are {h} × {days} = {}", h * days),
                format!("The pay is {} × {w} = {}", h * days, h * days * w),
            ],
            format!("{who} earns {} dollars", h * days * w),
            h * days * w,
        )
    }),
    ExerciseKind("en-pages", |d| {
        let (who, n, t) = (d.en_name(), d.int(8, 35), d.int(3, 8));
        let all = n * t + d.int(10, 120);
        draft(
            format!(
                "{who} reads {n} pages a day of a book with {all} pages. How many are left after {t} days?"
            ),
            [
                format!("Pages read: {n} × {t} = {}", n * t),
                format!("Pages left: {all} - {} = {}", n * t, all - n * t),
            ],
            format!("There are {} pages left", all - n * t),
            all - n * t,
        )
    }),
    ExerciseKind("en-times", |d| {
        let ((who, other), thing, a, k) = (d.en_names(), d.en_thing(), d.int(3, 30), d.int(2, 8));
        draft(
            format!("{who} has {a} {thing}. {other} has {k} times as many. How many do they have together?"),
            [
                format!("{other} has {a} × {k} = {}", a * k),
                format!("Together: {a} + {} = {}", a * k, a + a * k),
            ],
            format!("Together they have {} {thing}", a + a * k),
            a + a * k,
        )
    }),
    ExerciseKind("en-fewer", |d| {
        let ((who, other), thing, b) = (d.en_names(), d.en_thing(), d.int(2, 20));
        let a = b + d.int(4, 50);
        draft(
            format!("{who} has {a} {thing}, which is {b} more than {other} has. How many has {other}?"),
            [format!("{other} has fewer: {a} - {b} = {}", a - b)],
            format!("{other} has {} {thing}", a - b),
            a - b,
        )
    }),
    ExerciseKind("en-area", |d| {
        let (what, w) = (d.pick(&["garden", "room", "field", "wall", "park"]), d.int(3, 60));
        let l = w + d.int(2, 40);
        draft(
            format!("A rectangular {what} is {l} m long and {w} m wide. What is its area?"),
            [format!("Area is length times width: {l} × {w} = {}", l * w)],
            format!("The area of the {what} in square metres is {}", l * w),
            l * w,
        )
    }),
    ExerciseKind("en-perimeter", |d| {
        let (what, w) = (d.pick(&["garden", "yard", "field", "pool", "park"]), d.int(3, 60));
        let l = w + d.int(2, 40);
        draft(
            format!("How long is a fence around a rectangular {what} of {l} m by {w} m?"),
            [
                format!("Two sides: {l} + {w} = {}", l + w),
                format!("All sides: {} × 2 = {}", l + w, 2 * (l + w)),
            ],
            format!("The fence is {} m long", 2 * (l + w)),
            2 * (l + w),
        )
    }),
    ExerciseKind("en-average", |d| {
        let (who, mean, x, y) = (d.en_name(), d.int(60, 95), d.int(-5, 5), d.int(-5, 5));
        let (a, b, c) = (mean + x, mean + y, mean - x - y);
        draft(
            format!("{who} scores {a}, {b} and {c} in three tests. What is the average?"),
            [
                format!("The sum is {a} + {b} + {c} = {}", 3 * mean),
                format!("Divide by the tests: {} ÷ 3 = {mean}", 3 * mean),
            ],
            format!("The average is {mean}"),
            mean,
        )
    }),
    ExerciseKind("en-percent", |d| {
        let (what, p, r) = (
            d.pick(&["coat", "lamp", "bag", "chair", "clock", "tent", "bike"]),
            d.int(2, 60) * 20,
            d.int(1, 10) * 5,
        );
        let off = p * r / 100;
        draft(
            format!("A {what} costs {p} dollars and is sold at {r}% off. What is the new price?"),
            [
                format!("The discount is {p} × {r} ÷ 100 = {off}"),
                format!("The price is {p} - {off} = {}", p - off),
            ],
            format!("The new price is {} dollars", p - off),
            p - off,
        )
    }),
    ExerciseKind("en-boxes", |d| {
        let (thing, k, n) = (d.en_thing(), d.int(4, 12), d.int(3, 15));
        let rest = d.int(1, k - 1);
        draft(
            format!(
                "There are {} {thing}. {n} boxes are filled with {k} each. How many are left over?",
                k * n + rest
            ),
            [
                format!("Packed: {k} × {n} = {}", k * n),
                format!("Left over: {} - {} = {rest}", k * n + rest, k * n),
            ],
            format!("The number of {thing} left over is {rest}"),
            rest,
        )
    }),
    ExerciseKind("en-two-goods", |d| {
        let (who, (x, y)) = (d.en_name(), d.en_things());
        let (a, p, b, q) = (d.int(2, 8), d.int(2, 12), d.int(2, 8), d.int(2, 12));
        draft(
            format!("{who} buys {a} {x} at {p} dollars and {b} {y} at {q} dollars each. What is the total?"),
            [
                format!("The {x} cost {a} × {p} = {}", a * p),
                format!("The {y} cost {b} × {q} = {}", b * q),
                format!("The total is {} + {} = {}", a * p, b * q, a * p + b * q),
            ],
            format!("The total is {} dollars", a * p + b * q),
            a * p + b * q,
        )
    }),
];
