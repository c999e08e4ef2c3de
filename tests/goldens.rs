//! The network against scores that the NumPy reference gave (tests/goldens/make.py).

use candle_core::{Device, Result, Tensor};
use qmambaiqa::crops::normalise;
use qmambaiqa::model::parameters::{Init, Precision, Scope, Source};
use qmambaiqa::model::{Adapter, AdapterConfig, Config, QMamba};

/// The generator of make.py.
fn uniform(name: &str, n: usize) -> Vec<f32> {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let key = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, step);
    (0..n as u64)
        .map(|i| {
            let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(key);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
        })
        .collect()
}

/// make.py's weights; trainable or frozen, which take different ways through the network.
struct Weights {
    trainable: bool,
    precision: Precision,
}

impl Source for Weights {
    fn tensor(&mut self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let fan_in = if leaf == "weight" { shape[1..].iter().product() } else { shape[shape.len() - 1] };
        let scale = (3.0 / fan_in as f64).sqrt() as f32;
        let value = |v: f32| match leaf {
            "Ds" => 1.0 + 0.25 * v,
            "weight" if shape.len() == 1 => 1.0 + 0.25 * v,
            "dt_projs_bias" => v - 3.0,
            "A_logs" | "prompts" => v,
            "bias" => 0.1 * v,
            _ => v * scale,
        };
        let values: Vec<f32> = uniform(name, shape.iter().product()).into_iter().map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    fn trainable(&self) -> bool {
        self.trainable
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

#[test]
fn scores_are_the_references() {
    let goldens: Vec<serde_json::Value> = serde_json::from_str(include_str!("goldens/goldens.json")).unwrap();
    let to_pixel = |v: &f32| f32::from((f64::from(v + 1.0) * 127.5) as u8) / 255.0;
    let mut image: Vec<f32> = uniform("image", 224 * 224 * 3).iter().map(to_pixel).collect();
    normalise(&mut image);
    let image = Tensor::from_vec(image, (1, 224, 224, 3), &Device::Cpu).unwrap();
    let batch = Tensor::cat(&[&image, &image], 0).unwrap();
    let mut worst = [0f64; 2];
    for golden in &goldens {
        let config: Config = serde_json::from_value(golden["config"].clone()).unwrap();
        let (exact, standard) = (Precision::Exact, Precision::Standard);
        for (trainable, precision) in [(false, exact), (true, exact), (false, standard)] {
            let worst = &mut worst[usize::from(precision == standard)];
            let mut weights = Weights { trainable, precision };
            let model = QMamba::new(Scope::new(&mut weights), &config).unwrap();
            let prompt = golden["style_prompt"].as_bool().unwrap();
            let prompt = prompt.then(|| Adapter::new(&mut weights, &config, &AdapterConfig::default()).unwrap());
            for crops in [&image, &batch] {
                let output = model.forward(crops, prompt.as_ref()).unwrap();
                for score in output.score.to_vec1::<f32>().unwrap() {
                    *worst = worst.max((f64::from(score) - golden["score"].as_f64().unwrap()).abs());
                }
                let norm = output
                    .features
                    .get(0)
                    .unwrap()
                    .sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
                    .sqrt();
                let expected = golden["features"].as_f64().unwrap();
                let tolerance = if precision == standard { 1e-3 } else { 1e-4 };
                assert!((f64::from(norm) - expected).abs() < tolerance * expected, "{golden}: features {norm}");
            }
        }
    }
    println!("worst difference of a score from the reference: exact {:.1e}, standard {:.1e}", worst[0], worst[1]);
    assert!(goldens.len() == 6 && worst[0] < 2e-5, "{worst:?}"); // f32 against f64 over some 40 layers
    assert!(worst[1] < 1e-3, "{worst:?}"); // 16-bit products; outputs are of size 1
}
