//! A plot of a person's own, with nothing but what lorascope brings: plotters with all its series and elements, and
//! with the figure that evcxr shows.

use lorascope::plotters::prelude::*;

#[test]
fn a_plot_is_drawn_with_plotters_as_it_comes_with_lorascope() {
    let figure = evcxr_figure((640, 480), |root| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root).margin(10).build_cartesian_2d(0f64..10.0, 0f64..10.0)?;
        chart.configure_mesh().draw()?;
        let wave = (0..100).map(|i| (f64::from(i) / 10.0, 5.0 + f64::from(i).sin()));
        chart.draw_series(LineSeries::new(wave.clone(), &RED))?.label("wave");
        chart.draw_series(AreaSeries::new(wave.clone(), 0.0, BLUE.mix(0.2)))?;
        chart.draw_series(PointSeries::of_element(wave, 2, &BLUE, &|at, size, style| {
            EmptyElement::at(at) + Circle::new((0, 0), size, style.filled())
        }))?;
        chart.draw_series([ErrorBar::new_vertical(2.0, 1.0, 2.0, 3.0, BLACK.filled(), 10)])?;
        chart.draw_series([CandleStick::new(4.0, 1.0, 4.0, 0.5, 3.0, GREEN.filled(), RED, 10)])?;
        chart.configure_series_labels().draw()?;
        Ok(())
    });
    let shown = format!("{figure:?}");
    assert!(shown.starts_with("EVCXR_BEGIN_CONTENT text/html\n") && shown.contains("<polyline"), "{shown}");

    let bars = evcxr_figure((320, 240), |root| {
        let mut chart = ChartBuilder::on(&root).build_cartesian_2d((0u32..5).into_segmented(), 0u32..5)?;
        let counts = [1u32, 2, 2, 3].map(|value| (value, 1));
        chart.draw_series(Histogram::vertical(&chart).style(RED.filled()).data(counts))?;
        Ok(())
    });
    assert!(format!("{bars:?}").matches("<rect").count() >= 3);

    let surface = evcxr_figure((320, 240), |root| {
        let mut chart = ChartBuilder::on(&root).build_cartesian_3d(0f64..1.0, 0f64..1.0, 0f64..1.0)?;
        let grid = || (0..5).map(|i| f64::from(i) / 5.0);
        chart.draw_series(SurfaceSeries::xoz(grid(), grid(), |x, z| x * z).style(BLUE.mix(0.5)))?;
        Ok(())
    });
    assert!(format!("{surface:?}").contains("<polygon"));
}
