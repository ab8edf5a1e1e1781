//! `tidegate sale`: the sales of a running gateway, over its admin API.

use super::admin::Admin;
use super::{Failure, audit, out, resume, table};
use serde::Serialize;
use tidegate_client::Client;
use tidegate_client::wire::{AuditReport, ProblemType, PutSale, Sale, SaleState};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// All sales with their counters
    List,
    /// One sale
    Show {
        /// Id of the sale
        sale: String,
    },
    /// Create a sale, or change everything of it but its stock
    Create(Create),
    /// Open a sale by hand, before its time too; it closes at its `closes_at_ms`
    Open {
        /// Id of the sale
        sale: String,
    },
    /// Close a sale by hand; its tickets live on
    Close {
        /// Id of the sale
        sale: String,
    },
    /// Add units; a repeat with the same --id adds nothing
    Restock {
        /// Id of the sale
        sale: String,
        /// Your id of this delivery
        #[arg(long, value_name = "RESTOCK_ID")]
        id: String,
        /// Units, at least 1
        #[arg(long, visible_alias = "units", allow_hyphen_values = true, value_parser = units)]
        quantity: u64,
    },
    /// Let a paused sale go on without a gateway's log; what only that log held is lost
    ///
    /// Without --without-gateway it changes nothing and tells what the sale waits for.
    Resume {
        /// Id of the sale
        sale: String,
        /// The gateway that cannot come back, as `tidegate sale resume` and the log name it
        #[arg(long, value_name = "ID")]
        without_gateway: Option<String>,
        /// Do not ask
        #[arg(long, requires = "without_gateway")]
        yes: bool,
    },
    /// Recount the tickets; exit code 1 when an identity does not hold, 3 when a sale is paused
    Audit {
        /// Id of the sale; all sales without it
        sale: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Id of the sale: 1 to 64 of A-Z a-z 0-9 _ . -
    sale: String,
    /// What is sold
    #[arg(long)]
    item: String,
    /// Units put on sale; fixed once the sale exists
    #[arg(long)]
    stock: u64,
    /// For people
    #[arg(long)]
    title: Option<String>,
    /// Units that one buyer may hold
    #[arg(long, default_value_t = 1)]
    per_buyer_limit: u32,
    /// Units that one order may ask for
    #[arg(long, default_value_t = 1)]
    quantity_max: u32,
    /// Opens by itself, in ms since 1970
    #[arg(long)]
    opens_at_ms: Option<u64>,
    /// Closes by itself, in ms since 1970
    #[arg(long)]
    closes_at_ms: Option<u64>,
    /// An order that no worker has created is dropped after
    #[arg(long, default_value_t = 30_000)]
    order_deadline_ms: u64,
    /// A created order that is not paid expires after
    #[arg(long, default_value_t = 900_000)]
    pay_window_ms: u64,
    /// Share of the token queue, against other sales; kept, without effect in this version
    #[arg(long, default_value_t = 1)]
    weight: u32,
    /// Sales of one group share the per-buyer limit
    #[arg(long)]
    limit_group: Option<String>,
    /// A released ticket still counts against the buyer's limit
    #[arg(long)]
    limit_counts_released: bool,
    /// Open it at once
    #[arg(long)]
    open: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.admin.run(async |client| call(args, client).await)
}

async fn call(args: &Args, client: &Client) -> Result<(), Failure> {
    match &args.command {
        Command::List => {
            let sales = client.sales().await?;
            print_sales(args, &sales, &sales)
        }
        Command::Show { sale } => {
            let found = client.sale(sale).await?;
            let found = found.ok_or_else(|| no_sale(args, sale))?;
            print_sale(args, &found)
        }
        Command::Create(create) => {
            let mut sale = client.put_sale(&create.sale, &create.settings()).await?;
            if create.open {
                sale = client.open_sale(&create.sale).await?;
            }
            print_sale(args, &sale)
        }
        Command::Open { sale } => print_sale(args, &client.open_sale(sale).await?),
        Command::Close { sale } => print_sale(args, &client.close_sale(sale).await?),
        Command::Restock { sale, id, quantity } => {
            let before = client.sale(sale).await?.map(|sale| sale.restocked);
            let after = client.restock(sale, id, *quantity).await?;
            if before == Some(after.restocked) {
                out::note(format_args!("restock id \"{id}\" was used before: nothing is added"));
            }
            print_sale(args, &after)
        }
        Command::Resume { sale, without_gateway, yes } => {
            resume::run(client, sale, without_gateway.as_deref(), *yes, args.admin.json).await
        }
        Command::Audit { sale: Some(sale) } => {
            let audit = client.audit_sale(sale).await.map_err(|error| match error.problem_type() {
                Some(ProblemType::SaleNotFound) => no_sale(args, sale),
                Some(ProblemType::SalePaused) => Failure::Start(format!(
                    "sale \"{sale}\" is paused, and not audited; what it waits for is told by: tidegate sale resume \
                     {sale}"
                )),
                _ => error.into(),
            })?;
            let report = AuditReport { holds: audit.holds, sales: vec![audit], paused: Vec::new() };
            audit::print(&report, args.admin.json)
        }
        Command::Audit { sale: None } => audit::print(&client.audit().await?, args.admin.json),
    }
}

fn units(text: &str) -> Result<u64, String> {
    let units = text.parse().ok().filter(|units| *units > 0);
    units.ok_or_else(|| "a whole number of at least 1 is wanted; a restock only adds units".to_owned())
}

fn no_sale(args: &Args, sale: &str) -> Failure {
    Failure::No(format!("no sale \"{sale}\" at {}", args.admin.inner))
}

impl Create {
    fn settings(&self) -> PutSale {
        PutSale {
            item: self.item.clone(),
            title: self.title.clone(),
            stock: self.stock,
            per_buyer_limit: self.per_buyer_limit,
            quantity_max: self.quantity_max,
            opens_at_ms: self.opens_at_ms,
            closes_at_ms: self.closes_at_ms,
            order_deadline_ms: self.order_deadline_ms,
            pay_window_ms: self.pay_window_ms,
            weight: self.weight,
            requires_pass: false,
            limit_group: self.limit_group.clone(),
            limit_counts_released: self.limit_counts_released,
        }
    }
}

fn print_sale(args: &Args, sale: &Sale<'_>) -> Result<(), Failure> {
    print_sales(args, std::slice::from_ref(sale), sale)
}

fn print_sales(args: &Args, sales: &[Sale<'_>], json: &impl Serialize) -> Result<(), Failure> {
    if args.admin.json {
        return super::print_json(json);
    }
    let head = ["sale", "item", "state", "initial", "restocked", "available", "held", "sold", "returned"];
    let rows: Vec<Vec<String>> = sales
        .iter()
        .map(|sale| {
            let counters =
                [sale.initial, sale.restocked, sale.available, sale.held, sale.sold, sale.returned];
            let words = [sale.sale.to_string(), sale.item.to_string(), state(sale.state).to_owned()];
            words.into_iter().chain(counters.iter().map(u64::to_string)).collect()
        })
        .collect();
    // The item first: the id is what the next command asks for.
    out::say(table::fit(&head, &rows, &[1, 0], out::columns()))
}

fn state(state: SaleState) -> &'static str {
    match state {
        SaleState::Upcoming => "upcoming",
        SaleState::Open => "open",
        SaleState::SoldOut => "sold_out",
        SaleState::Closed => "closed",
        SaleState::Paused => "paused",
    }
}
