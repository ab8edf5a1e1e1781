//! The sales of the file: new ones are created, what was changed in the file since it was read last is changed as
//! `PUT /v1/sales/{sale}` would. What the file did not change stays as operators made it; a sale that was taken out of
//! the file goes on.

use super::NotReloaded;
use crate::config::{Config, ConfigProblem, SaleAtStart};
use crate::state::Core;
use tidegate_stock::SalePut;

/// What is to be put into the ledger.
pub(super) struct Plan {
    puts: Vec<SaleAtStart>,
    /// Sales that are no longer in the file.
    pub(super) left: Vec<String>,
}

/// Compares the file with the one before and with the ledger. Also answers what is wrong.
pub(super) async fn plan(
    core: &Core,
    before: &Config,
    after: &Config,
) -> Result<(Plan, Vec<ConfigProblem>), NotReloaded> {
    let (mut puts, mut problems) = (Vec::new(), Vec::new());
    for (number, sale) in after.sales.iter().enumerate().filter(|(_, sale)| !before.sales.contains(sale)) {
        let present = core.sale(&sale.sale).await.map_err(|error| {
            let sale = &sale.sale;
            NotReloaded::Ledger(format!(
                "the sale {sale} cannot be looked up: {error}; nothing was changed, try again"
            ))
        })?;
        match present {
            Some(present) if present.spec.stock != sale.spec.stock => problems.push(ConfigProblem {
                place: after.place_of(&format!("sale[{number}].stock")),
                key: "sale.stock".to_owned(),
                message: format!(
                    "the sale \"{}\" was created with {} units, not {}",
                    sale.sale, present.spec.stock, sale.spec.stock
                ),
                help: Some(format!(
                    "write {}; units are added with `tidegate sale restock`",
                    present.spec.stock
                )),
            }),
            _ => puts.push(sale.clone()),
        }
    }
    let still = |sale: &&SaleAtStart| !after.sales.iter().any(|other| other.sale == sale.sale);
    let left = before.sales.iter().filter(still).map(|sale| sale.sale.clone()).collect();
    Ok((Plan { puts, left }, problems))
}

impl Plan {
    /// Writes them; answers which are new and which were changed. The error names those that were written before it.
    pub(super) async fn put(&self, core: &Core) -> Result<(Vec<String>, Vec<String>), NotReloaded> {
        let (mut created, mut changed) = (Vec::new(), Vec::new());
        for SaleAtStart { sale, spec } in &self.puts {
            match core.put_sale(sale, spec).await {
                Ok(SalePut::Created) => created.push(sale.clone()),
                Ok(SalePut::Changed) => changed.push(sale.clone()),
                Ok(SalePut::Unchanged) => {}
                Err(error) => {
                    let done = [created, changed].concat();
                    let done = if done.is_empty() {
                        "nothing was changed".to_owned()
                    } else {
                        format!(
                            "the sales {} were written before it, and no setting was changed",
                            done.join(" ")
                        )
                    };
                    return Err(NotReloaded::Ledger(format!(
                        "the sale {sale} cannot be written: {error}; {done}; reload again"
                    )));
                }
            }
        }
        Ok((created, changed))
    }
}
