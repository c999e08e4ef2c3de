//! The selective scan as plain loops in `f64`, for any state size: the specification of the fast paths.

use super::{Gradients, ScanOrders, Sizes};

/// One channel of one direction of one image: its operands by token and where its values lie.
struct Channel<'a> {
    x: &'a [f32],
    projections: &'a [f32],
    parameters: &'a [f32],
    sizes: Sizes,
    batch: usize,
    direction: usize,
    channel: usize,
}

/// What a step computes before the state is known.
struct Step {
    token: Option<usize>,
    x: f64,
    dt: f64,
    delta: f64,
}

impl Channel<'_> {
    fn x_at(&self, token: usize) -> usize {
        (self.batch * self.sizes.tokens + token) * self.sizes.channels + self.channel
    }

    fn projection_at(&self, token: usize, i: usize) -> usize {
        ((self.batch * self.sizes.tokens + token) * self.sizes.directions + self.direction) * self.sizes.projected() + i
    }

    fn parameter_at(&self, i: usize) -> usize {
        (self.direction * self.sizes.parameters() + i) * self.sizes.channels + self.channel
    }

    fn y_at(&self, token: usize) -> usize {
        if self.sizes.merge {
            self.x_at(token)
        } else {
            ((self.batch * self.sizes.directions + self.direction) * self.sizes.tokens + token) * self.sizes.channels
                + self.channel
        }
    }

    fn parameter(&self, i: usize) -> f64 {
        f64::from(self.parameters[self.parameter_at(i)])
    }

    /// The `i`-th projection at a step, zero at padding.
    fn projection(&self, step: &Step, i: usize) -> f64 {
        step.token.map_or(0.0, |token| f64::from(self.projections[self.projection_at(token, i)]))
    }

    fn a(&self, n: usize) -> f64 {
        -self.parameter(self.sizes.rank + 1 + n).exp()
    }

    fn skip(&self) -> f64 {
        self.parameter(self.sizes.rank + 1 + self.sizes.state)
    }

    fn step(&self, entry: u32) -> Step {
        let token = (entry != ScanOrders::PADDING).then_some(entry as usize);
        let mut step = Step { token, x: token.map_or(0.0, |t| f64::from(self.x[self.x_at(t)])), dt: 0.0, delta: 0.0 };
        step.dt = self.parameter(self.sizes.rank);
        for r in 0..self.sizes.rank {
            step.dt += self.projection(&step, r) * self.parameter(r);
        }
        step.delta = step.dt.max(0.0) + (-step.dt.abs()).exp().ln_1p();
        step
    }

    fn b(&self, step: &Step, n: usize) -> f64 {
        self.projection(step, self.sizes.rank + n)
    }

    fn c(&self, step: &Step, n: usize) -> f64 {
        self.projection(step, self.sizes.rank + self.sizes.state + n)
    }
}

/// Calls `visit` with every channel of every direction of every image.
fn each_channel<'a>(
    x: &'a [f32],
    projections: &'a [f32],
    parameters: &'a [f32],
    sizes: Sizes,
    mut visit: impl FnMut(Channel<'a>),
) {
    for batch in 0..sizes.batch {
        for direction in 0..sizes.directions {
            for channel in 0..sizes.channels {
                visit(Channel { x, projections, parameters, sizes, batch, direction, channel });
            }
        }
    }
}

/// The outputs; operands and result in the shapes that [`selective_scan`](super::selective_scan) names.
pub fn forward(x: &[f32], projections: &[f32], parameters: &[f32], orders: &ScanOrders, sizes: Sizes) -> Vec<f32> {
    let directions = if sizes.merge { 1 } else { sizes.directions };
    let mut y = vec![0f64; sizes.batch * directions * sizes.tokens * sizes.channels];
    each_channel(x, projections, parameters, sizes, |channel| {
        let mut h = vec![0f64; sizes.state];
        for &entry in &orders.tables()[channel.direction] {
            let step = channel.step(entry);
            let mut out = channel.skip() * step.x;
            for (n, h) in h.iter_mut().enumerate() {
                *h = (step.delta * channel.a(n)).exp() * *h + step.delta * channel.b(&step, n) * step.x;
                out += channel.c(&step, n) * *h;
            }
            if let Some(token) = step.token {
                y[channel.y_at(token)] += out;
            }
        }
    });
    y.into_iter().map(|v| v as f32).collect()
}

/// The operands' gradients from that of the output, by the chain rule backwards through each sequence.
pub fn backward(
    x: &[f32],
    projections: &[f32],
    parameters: &[f32],
    grad: &[f32],
    orders: &ScanOrders,
    sizes: Sizes,
) -> Gradients {
    let (rank, state) = (sizes.rank, sizes.state);
    let mut gx = vec![0f64; x.len()];
    let mut gp = vec![0f64; projections.len()];
    let mut gw = vec![0f64; parameters.len()];
    each_channel(x, projections, parameters, sizes, |channel| {
        let steps: Vec<Step> = orders.tables()[channel.direction].iter().map(|&entry| channel.step(entry)).collect();
        for n in 0..state {
            let a = channel.a(n);
            let mut h = vec![0f64; steps.len() + 1]; // h[t + 1] is the state after step t
            for (t, step) in steps.iter().enumerate() {
                h[t + 1] = (step.delta * a).exp() * h[t] + step.delta * channel.b(step, n) * step.x;
            }
            let mut gh = 0.0;
            for (t, step) in steps.iter().enumerate().rev() {
                let gy = step.token.map_or(0.0, |token| f64::from(grad[channel.y_at(token)]));
                let decay = (step.delta * a).exp();
                gh += channel.c(step, n) * gy;
                let g_delta = gh * (h[t] * decay * a + channel.b(step, n) * step.x);
                let g_dt = g_delta / (1.0 + (-step.dt).exp());
                gw[channel.parameter_at(rank + 1 + n)] += gh * h[t] * decay * step.delta * a; // dA / dA_log = A
                gw[channel.parameter_at(rank)] += g_dt;
                if let Some(token) = step.token {
                    gp[channel.projection_at(token, rank + n)] += gh * step.delta * step.x;
                    gp[channel.projection_at(token, rank + state + n)] += gy * h[t + 1];
                    gx[channel.x_at(token)] += gh * step.delta * channel.b(step, n);
                    for r in 0..rank {
                        gw[channel.parameter_at(r)] += g_dt * channel.projection(step, r);
                        gp[channel.projection_at(token, r)] += g_dt * channel.parameter(r);
                    }
                    if n == 0 {
                        gx[channel.x_at(token)] += gy * channel.skip();
                        gw[channel.parameter_at(rank + 1 + state)] += gy * step.x;
                    }
                }
                gh *= decay;
            }
        }
    });
    let round = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
    Gradients { x: round(gx), projections: round(gp), parameters: round(gw) }
}
