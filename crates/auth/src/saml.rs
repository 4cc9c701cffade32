//! SAML 2.0 bearer assertions (RFC 7522), signed with an enveloped XML signature: RSA-SHA256 over the exclusive
//! canonical form.
//!
//! The document is written in canonical form to begin with: name spaces where they are first used, attributes in
//! their order, no empty-element tags, the escapes of the canonical form. What is hashed is therefore what is sent.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_types::Secret;
use patchbay_types::time::millis_z;

use crate::jwt::{JwtError, SigningKey};

const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const UNSPECIFIED_NAME: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
const UNSPECIFIED_CLASS: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified";
const BASIC_NAME: &str = "urn:oasis:names:tc:SAML:2.0:attrname-format:basic";

/// What an assertion says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    pub(crate) issuer: String,
    pub(crate) name_identifier: String,
    /// Empty for the unspecified format.
    pub(crate) name_identifier_format: String,
    pub(crate) recipient: String,
    /// Empty for none.
    pub(crate) in_response_to: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) session_index: String,
    /// Empty for the unspecified class.
    pub(crate) authn_context: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) lifetime: SignedDuration,
    /// Sent with the signature; PEM or its bare base64, empty for none.
    pub(crate) certificate: String,
}

/// Makes an assertion, base64 of the document; without a key an unsigned one.
pub(crate) fn make(
    statement: &Statement,
    key: Option<&SigningKey>,
    ambient: &Ambient,
) -> Result<Secret, JwtError> {
    let mut id = [0; 16];
    ambient.entropy.fill(&mut id);
    let id = format!("_{}", HEXLOWER.encode(&id));
    let now = ambient.now();
    let end = now.checked_add(statement.lifetime).unwrap_or(Timestamp::MAX);
    let (head, tail) = document(statement, &id, now, end);
    let signature = match key {
        Some(key) => signature(&format!("{head}{tail}"), &id, key, &statement.certificate)?,
        None => String::new(),
    };
    Ok(Secret::new(
        BASE64.encode(format!("{head}{signature}{tail}").as_bytes()),
    ))
}

/// The canonical document, cut where the signature goes: right after the issuer.
fn document(statement: &Statement, id: &str, now: Timestamp, end: Timestamp) -> (String, String) {
    let (now, end) = (millis_z(now), millis_z(end));
    let or = |given: &str, usual: &str| attribute(if given.is_empty() { usual } else { given });
    let head = format!(
        "<saml:Assertion xmlns:saml=\"{SAML}\" ID=\"{id}\" IssueInstant=\"{now}\" Version=\"2.0\">\
         <saml:Issuer>{}</saml:Issuer>",
        text(&statement.issuer)
    );
    let response = match statement.in_response_to.as_str() {
        "" => String::new(),
        request => format!(" InResponseTo=\"{}\"", attribute(request)),
    };
    let mut tail = format!(
        "<saml:Subject><saml:NameID Format=\"{}\">{}</saml:NameID><saml:SubjectConfirmation Method=\"{BEARER}\">\
         <saml:SubjectConfirmationData{response} NotOnOrAfter=\"{end}\" Recipient=\"{}\"></saml:SubjectConfirmationData>\
         </saml:SubjectConfirmation></saml:Subject>\
         <saml:Conditions NotBefore=\"{now}\" NotOnOrAfter=\"{end}\">",
        or(&statement.name_identifier_format, UNSPECIFIED_NAME),
        text(&statement.name_identifier),
        attribute(&statement.recipient),
    );
    if !statement.audiences.is_empty() {
        tail.push_str("<saml:AudienceRestriction>");
        for audience in &statement.audiences {
            let _ = write!(tail, "<saml:Audience>{}</saml:Audience>", text(audience));
        }
        tail.push_str("</saml:AudienceRestriction>");
    }
    tail.push_str("</saml:Conditions>");
    let session = match statement.session_index.as_str() {
        "" => String::new(),
        index => format!(" SessionIndex=\"{}\"", attribute(index)),
    };
    let class = match statement.authn_context.as_str() {
        "" => UNSPECIFIED_CLASS,
        class => class,
    };
    let _ = write!(
        tail,
        "<saml:AuthnStatement AuthnInstant=\"{now}\"{session}><saml:AuthnContext><saml:AuthnContextClassRef>{}\
         </saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>",
        text(class)
    );
    if !statement.attributes.is_empty() {
        tail.push_str("<saml:AttributeStatement>");
        for (name, value) in &statement.attributes {
            let _ = write!(
                tail,
                "<saml:Attribute Name=\"{}\" NameFormat=\"{BASIC_NAME}\"><saml:AttributeValue>{}</saml:AttributeValue>\
                 </saml:Attribute>",
                attribute(name),
                text(value)
            );
        }
        tail.push_str("</saml:AttributeStatement>");
    }
    tail.push_str("</saml:Assertion>");
    (head, tail)
}

/// XML Signature §4, enveloped. `document` is canonical and has no signature in it, which is what the two transforms
/// leave of the document that is sent.
fn signature(document: &str, id: &str, key: &SigningKey, certificate: &str) -> Result<String, JwtError> {
    let hash = BASE64.encode(digest(&SHA256, document.as_bytes()).as_ref());
    let inside = format!(
        "<ds:CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"></ds:CanonicalizationMethod>\
         <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"></ds:SignatureMethod>\
         <ds:Reference URI=\"#{id}\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>\
         <ds:Transform Algorithm=\"{EXCLUSIVE}\"></ds:Transform></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></ds:DigestMethod>\
         <ds:DigestValue>{hash}</ds:DigestValue></ds:Reference>"
    );
    // Canonicalized on its own, `SignedInfo` declares the name space that its parent declares in the document.
    let signed = format!("<ds:SignedInfo xmlns:ds=\"{DSIG}\">{inside}</ds:SignedInfo>");
    let value = BASE64.encode(&key.sign("RS256", signed.as_bytes())?);
    let certificate = patchbay_catalog::pem::decode(certificate).map_or(String::new(), |block| {
        format!(
            "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
            BASE64.encode(&block.der)
        )
    });
    Ok(format!(
        "<ds:Signature xmlns:ds=\"{DSIG}\"><ds:SignedInfo>{inside}</ds:SignedInfo>\
         <ds:SignatureValue>{value}</ds:SignatureValue>{certificate}</ds:Signature>"
    ))
}

/// Escapes of text nodes in the canonical form.
fn text(value: &str) -> String {
    let value = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    value.replace('\r', "&#xD;")
}

/// Escapes of attribute values in the canonical form.
fn attribute(value: &str) -> String {
    let value = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;");
    value
        .replace('\t', "&#x9;")
        .replace('\n', "&#xA;")
        .replace('\r', "&#xD;")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
    use patchbay_ambient::TestClock;

    use super::*;

    fn statement() -> Statement {
        Statement {
            issuer: "www.example.com".to_owned(),
            name_identifier: "ada & <co>".to_owned(),
            recipient: "https://api.example.com/oauth/token?a=1&b=\"2\"".to_owned(),
            audiences: vec!["www.example.com".to_owned()],
            session_index: "s-1".to_owned(),
            attributes: vec![("api_key".to_owned(), "k>1\u{e9}".to_owned())],
            lifetime: SignedDuration::from_mins(5),
            ..Statement::default()
        }
    }

    /// The digest is that of Python's own canonicalizer over the same document with white space of its own,
    /// empty-element tags and attributes out of order:
    /// `base64(sha256(xml.etree.ElementTree.canonicalize(document)))`.
    #[test]
    fn the_document_is_canonical() {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let end = "2026-01-02T03:09:05.678Z".parse().unwrap();
        let (head, tail) = document(&statement(), "_00ff", at, end);
        let hash = BASE64.encode(digest(&SHA256, format!("{head}{tail}").as_bytes()).as_ref());
        assert_eq!(
            hash, "ceVq+cXJPvNtYisaZcd3xe68qo4kME2qlXZEiDEQ67w=",
            "{head}{tail}"
        );
    }

    #[test]
    fn signatures_cover_what_is_sent() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let ambient = Ambient::test(TestClock::default(), 7);
        let made = make(&statement(), Some(&SigningKey::Rsa(Box::new(pair))), &ambient).unwrap();
        let sent = String::from_utf8(BASE64.decode(made.expose().as_bytes()).unwrap()).unwrap();
        let between = |from: &str, to: &str| {
            let rest = sent.split_once(from).unwrap().1;
            rest.split_once(to).unwrap().0.to_owned()
        };
        // The enveloped transform: the document without its signature.
        let whole = format!(
            "<ds:Signature{}</ds:Signature>",
            between("<ds:Signature", "</ds:Signature>")
        );
        let hash = digest(&SHA256, sent.replace(&whole, "").as_bytes());
        assert_eq!(
            between("<ds:DigestValue>", "</ds:DigestValue>"),
            BASE64.encode(hash.as_ref())
        );
        assert!(
            sent.contains(&format!("</saml:Issuer>{whole}<saml:Subject>")),
            "{sent}"
        );
        let info = between("<ds:SignedInfo>", "</ds:SignedInfo>");
        let info = format!("<ds:SignedInfo xmlns:ds=\"{DSIG}\">{info}</ds:SignedInfo>");
        let value = BASE64
            .decode(between("<ds:SignatureValue>", "</ds:SignatureValue>").as_bytes())
            .unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(info.as_bytes(), &value)
            .unwrap();
        assert!(crate::xml::read(&sent).is_some(), "{sent}");

        let unsigned = make(&statement(), None, &ambient).unwrap();
        let unsigned = BASE64.decode(unsigned.expose().as_bytes()).unwrap();
        assert!(!String::from_utf8(unsigned).unwrap().contains("Signature"));
    }
}
