//! Admin API: sales, audit, figures, dead letters, gateways, health.

use super::transport::{Call, segment};
use super::worker::group_path;
use super::{Client, ClientError};
use crate::wire::{
    Audit, AuditReport, Ban, BanList, Excess, Forgotten, Gateway, Gateways, Lifted, Message, PutBan, PutSale,
    ReceiveAnswer, Recovery, RedriveAnswer, RedriveRequest, RedriveResult, ReleaseExcess, Reloaded, Restock,
    ResumeRequest, Sale, SaleList, TopicList, TopicStats,
};
use http::StatusCode;

impl Client {
    /// Creates a sale or changes what may change. Another `stock` for an existing sale is refused as
    /// `stock-already-set`. Cancel safety: repeat it.
    pub async fn put_sale(&self, sale: &str, settings: &PutSale) -> Result<Sale<'static>, ClientError> {
        self.shared.call(Call::put(sale_path(sale, "")).json(settings)).await
    }

    /// Opens a sale by hand. Cancel safety: repeat it.
    pub async fn open_sale(&self, sale: &str) -> Result<Sale<'static>, ClientError> {
        self.shared.call(Call::post(sale_path(sale, "/open"))).await
    }

    /// Closes a sale by hand. Cancel safety: repeat it.
    pub async fn close_sale(&self, sale: &str) -> Result<Sale<'static>, ClientError> {
        self.shared.call(Call::post(sale_path(sale, "/close"))).await
    }

    /// Adds units, once for each `restock_id`. Cancel safety: repeat it with the same id.
    pub async fn restock(
        &self,
        sale: &str,
        restock_id: &str,
        quantity: u64,
    ) -> Result<Sale<'static>, ClientError> {
        let body = Restock { restock_id: restock_id.to_owned(), quantity };
        self.shared.call(Call::post(sale_path(sale, "/restock")).json(&body)).await
    }

    /// How a paused sale stands. Of a ledger in Redis. Reads only.
    pub async fn recovery(&self, sale: &str) -> Result<Recovery, ClientError> {
        self.shared.call(Call::get(sale_path(sale, "/recovery"))).await
    }

    /// Gives up a gateway's log, so that a paused sale can go on without it. Cancel safety: repeat it.
    pub async fn resume_without(&self, sale: &str, gateway: &str) -> Result<Recovery, ClientError> {
        let body = ResumeRequest { without_gateway: gateway.to_owned() };
        self.shared.call(Call::post(sale_path(sale, "/resume")).json(&body)).await
    }

    /// Units sold beyond the stock, and tickets that could be released. Reads only.
    pub async fn excess(&self, sale: &str) -> Result<Excess, ClientError> {
        self.shared.call(Call::get(sale_path(sale, "/excess"))).await
    }

    /// Releases tickets of a sale that sold more than there was. Cancel safety: repeat it.
    pub async fn release_excess(
        &self,
        sale: &str,
        tickets: &[String],
        reason: &str,
    ) -> Result<Excess, ClientError> {
        let body = ReleaseExcess { tickets: tickets.to_vec(), reason: reason.to_owned() };
        self.shared.call(Call::post(sale_path(sale, "/excess")).json(&body)).await
    }

    /// The bans that hold. Reads only.
    pub async fn blacklist(&self) -> Result<Vec<Ban>, ClientError> {
        let list: BanList = self.shared.call(Call::get("/v1/blacklist".to_owned())).await?;
        Ok(list.bans)
    }

    /// Bans `buyer:ID`, `ip:ADDRESS` or `ip:NETWORK/LENGTH`, in place of an earlier ban. Cancel safety: repeat it.
    pub async fn ban(&self, client: &str, ban: &PutBan) -> Result<Ban, ClientError> {
        self.shared.call(Call::put(format!("/v1/blacklist/{}", segment(client))).json(ban)).await
    }

    /// Lifts a ban; one that is not there is lifted. Cancel safety: repeat it.
    pub async fn lift_ban(&self, client: &str) -> Result<Lifted, ClientError> {
        self.shared.call(Call::delete(format!("/v1/blacklist/{}", segment(client)))).await
    }

    /// Every sale. Reads only.
    pub async fn sales(&self) -> Result<Vec<Sale<'static>>, ClientError> {
        let list: SaleList<'static> = self.shared.call(Call::get("/v1/sales".to_owned())).await?;
        Ok(list.sales)
    }

    /// One sale with its counters, picked from the list; `None` when there is none of that name. Reads only.
    pub async fn sale(&self, sale: &str) -> Result<Option<Sale<'static>>, ClientError> {
        Ok(self.sales().await?.into_iter().find(|candidate| candidate.sale == sale))
    }

    /// Audit of one sale. An audit that does not hold is an answer too: look at `holds`. Reads only.
    pub async fn audit_sale(&self, sale: &str) -> Result<Audit, ClientError> {
        let call = Call::get(sale_path(sale, "/audit"));
        let answer = self.shared.send(&call).await?;
        call.parse(&answer, &[StatusCode::CONFLICT])
    }

    /// Audit of every sale; look at `holds`, which is false also when a sale is paused and could not be audited. Reads
    /// only.
    pub async fn audit(&self) -> Result<AuditReport, ClientError> {
        let call = Call::get("/v1/audit".to_owned());
        let answer = self.shared.send(&call).await?;
        call.parse(&answer, &[StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE])
    }

    /// Figures of every topic and group. Reads only.
    pub async fn topics(&self) -> Result<Vec<TopicStats>, ClientError> {
        let list: TopicList = self.shared.call(Call::get("/v1/topics".to_owned())).await?;
        Ok(list.topics)
    }

    /// Dead letters of a group, oldest first. Reads only.
    pub async fn dead_letters(&self, topic: &str, group: &str) -> Result<Vec<Message<'static>>, ClientError> {
        let answer: ReceiveAnswer<'static> =
            self.shared.call(Call::get(group_path(topic, group, "/dead-letters"))).await?;
        Ok(answer.messages)
    }

    /// Puts dead letters back into their group, all of them or those named. Cancel safety: repeat it; what is
    /// back already is refused per id.
    pub async fn redrive(
        &self,
        topic: &str,
        group: &str,
        ids: Option<Vec<String>>,
    ) -> Result<Vec<RedriveResult>, ClientError> {
        let call =
            Call::post(group_path(topic, group, "/dead-letters/redrive")).json(&RedriveRequest { ids });
        let answer: RedriveAnswer = self.shared.call(call).await?;
        Ok(answer.results)
    }

    /// The gateways that live, as this one knows them; it is among them. Reads only.
    pub async fn gateways(&self) -> Result<Vec<Gateway>, ClientError> {
        Ok(self.fleet_list().await?.gateways)
    }

    /// As [`Client::gateways`], and who of the fleet is away. Reads only.
    pub async fn fleet_list(&self) -> Result<Gateways, ClientError> {
        self.shared.call(Call::get("/v1/gateways".to_owned())).await
    }

    /// Gives up the log of a gateway that is gone for good, for all sales. Cancel safety: repeat it.
    pub async fn forget_gateway(&self, gateway: &str) -> Result<Forgotten, ClientError> {
        self.shared.call(Call::post(format!("/v1/gateways/{}/forget", segment(gateway)))).await
    }

    /// The gateway reads its configuration again and takes all of it or nothing. A refusal lists what is wrong in
    /// the member `problems`. Cancel safety: a reload that has begun goes on; repeat it.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.shared.call(Call::post("/v1/reload".to_owned())).await
    }

    /// True when the process answers. `Err` only when it cannot be reached.
    pub async fn is_alive(&self) -> Result<bool, ClientError> {
        self.probe("/healthz").await
    }

    /// True when it is able to sell. `Err` only when it cannot be reached. A 503 is retried within the policy
    /// first.
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        self.probe("/readyz").await
    }

    async fn probe(&self, path: &str) -> Result<bool, ClientError> {
        let answer = self.shared.send(&Call::get(path.to_owned())).await?;
        Ok(answer.status.is_success())
    }
}

fn sale_path(sale: &str, rest: &str) -> String {
    format!("/v1/sales/{}{rest}", segment(sale))
}
